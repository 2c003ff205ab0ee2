//! One connection of a registry from its first request to its last.

use std::io::{self, Write};
use std::sync::Arc;

use super::fault::{self, Fault};
use super::http::{Connection, Request, Response, Stream};
use super::log::Entry;
use super::routes::{self, Route};
use super::{Shared, auth, uploads};
use crate::loopback::Accepted;

/// Serves requests until one of both hangs up.
pub(super) fn serve(shared: &Arc<Shared>, accepted: Accepted) {
    let Accepted { stream, number, closing } = accepted;
    prepare(&stream);
    let mut first = [0];
    if shared.tls.is_some() && stream.peek(&mut first).is_ok() && first[0].is_ascii_alphabetic() {
        // As Go's server has it; without an answer the client would wait.
        let answer = b"HTTP/1.0 400 Bad Request\r\n\r\nClient sent an HTTP request to an HTTPS server.\n";
        shared.lock(&shared.handshake_errors).push("plain HTTP".into());
        // The client may have hung up.
        let _ = (&stream).write_all(answer);
        return;
    }
    let stream = match &shared.tls {
        None => Stream::Plain(stream),
        Some(config) => {
            let session = rustls::ServerConnection::new(Arc::clone(config)).expect("the configuration is complete");
            let mut stream = rustls::StreamOwned::new(session, stream);
            if let Err(error) = stream.conn.complete_io(&mut stream.sock) {
                shared.lock(&shared.handshake_errors).push(error.to_string());
                // The alert says why.
                let _ = stream.conn.write_tls(&mut stream.sock);
                return;
            }
            Stream::Tls(Box::new(stream))
        }
    };
    let limit = Arc::clone(shared);
    let mut connection = Connection::new(stream, closing, move || *limit.lock(&limit.throttle));
    while let Some(request) = connection.request() {
        match exchange(shared, &mut connection, request, number) {
            Ok(Next::Request) => {}
            Ok(Next::End) => return connection.finish(),
            // The client hung up, or was cut off by a fault.
            Ok(Next::Cut) | Err(_) => return,
        }
    }
    connection.finish();
}

/// Sets what makes counts true: no waiting for more, and little in the kernel's buffers.
pub(super) fn prepare(stream: &std::net::TcpStream) {
    stream.set_nodelay(true).expect("a socket takes TCP_NODELAY");
    rustix::net::sockopt::set_socket_send_buffer_size(stream, 64 * 1024).expect("a socket takes SO_SNDBUF");
}

enum Next {
    Request,
    End,
    Cut,
}

fn exchange(shared: &Shared, connection: &mut Connection, mut request: Request, number: usize) -> io::Result<Next> {
    let entry = shared.log.begin(&request, number);
    let faults = fault::met(&mut shared.lock(&shared.rules), &request);
    if faults.contains(&Fault::StopListening) {
        shared.stop_listening();
    }
    if faults.iter().any(|fault| matches!(fault, Fault::Close | Fault::StopListening)) {
        return Ok(Next::Cut);
    }
    fault::distort_request(&mut request, &faults);
    let route = Route::of(&request);
    let refused = fault::answer(&request, &faults).or_else(|| {
        let oldest = *shared.lock(&shared.oldest_token);
        auth::refusal(&shared.lock(&shared.auth), &shared.url, oldest, &request, &route)
    });
    let refused = match refused {
        Some(response) if request.has_body() && request.expects_continue() => {
            // The client has not sent the body and need not.
            let response = response.with("Connection", "close");
            respond(connection, response, &request, &faults, &entry)?;
            return Ok(Next::End);
        }
        refused => refused,
    };
    if request.expects_continue() {
        connection.say_continue()?;
    }
    let mut body = Vec::new();
    let most = faults.iter().find_map(|fault| if let Fault::BreakUpload(at) = fault { Some(*at) } else { None });
    let read = connection.body(&request, most.unwrap_or(u64::MAX), &entry, |piece| {
        if refused.is_none() {
            body.extend_from_slice(piece);
        }
    });
    if let Route::Upload { id, .. } = &route
        && (read.is_err() || most.is_some())
    {
        // What came is kept, as a registry does that writes as it reads.
        uploads::keep_part(&mut shared.lock(&shared.content), id, &body);
    }
    read?;
    if most.is_some() {
        return Ok(Next::Cut);
    }
    let mut response = refused.unwrap_or_else(|| answer(shared, &request, &route, &faults, body));
    if shared.options.signatures {
        response.set("X-Registry-Supports-Signatures", "1");
    }
    let can_go_on = respond(connection, response, &request, &faults, &entry)?;
    Ok(match (can_go_on, request.keeps_alive()) {
        (true, true) => Next::Request,
        (true, false) => Next::End,
        (false, _) => Next::Cut,
    })
}

fn answer(shared: &Shared, request: &Request, route: &Route, faults: &[Fault], body: Vec<u8>) -> Response {
    if *route == Route::Token {
        return auth::token(&shared.lock(&shared.auth), request, &body);
    }
    let mut content = shared.lock(&shared.content);
    if faults.contains(&Fault::ForgetUploads) {
        content.uploads.clear();
    }
    routes::answer(&mut content, &shared.options, &shared.url, request, body)
}

fn respond(
    connection: &mut Connection,
    mut response: Response,
    request: &Request,
    faults: &[Fault],
    entry: &Entry,
) -> io::Result<bool> {
    fault::distort_response(&mut response, request, faults);
    connection.respond(request, &response, entry)
}
