//! Each fault of the registry does what it says, seen by a client that knows nothing but TCP.
#![allow(missing_docs, clippy::unwrap_used, clippy::disallowed_methods, reason = "a test")]

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use holkas_testkit::image::{ImageBuilder, OCI_INDEX, OCI_MANIFEST, sha256_digest};
use holkas_testkit::proxy::Proxy;
use holkas_testkit::registry::{Auth, Bearer, Fault, FileType, Matcher, Registry, StaticRegistry};

/// What came back until the server closed the connection.
struct Answer {
    status: u16,
    head: String,
    body: Vec<u8>,
}

impl Answer {
    fn header(&self, name: &str) -> Option<&str> {
        let lines = self.head.lines().filter_map(|line| line.split_once(": "));
        lines.filter(|(other, _)| other.eq_ignore_ascii_case(name)).map(|(_, value)| value).next()
    }

    fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }
}

fn send(host: &str, request: &str, body: &[u8]) -> TcpStream {
    let mut stream = TcpStream::connect(host).unwrap();
    let (first, headers) = request.split_once('\n').unwrap_or((request, ""));
    let mut head = format!("{first} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n");
    for header in headers.lines() {
        head += &format!("{header}\r\n");
    }
    if !body.is_empty() {
        head += &format!("Content-Length: {}\r\n", body.len());
    }
    stream.write_all(format!("{head}\r\n").as_bytes()).unwrap();
    stream.write_all(body).unwrap();
    stream
}

fn split(bytes: &[u8]) -> Answer {
    let end = bytes.windows(4).position(|four| four == b"\r\n\r\n").expect("a whole head");
    let head = String::from_utf8(bytes[..end].to_vec()).unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    Answer { status, head, body: bytes[end + 4..].to_vec() }
}

/// Sends `METHOD TARGET`, with headers in lines below it, and reads to the end of the connection.
fn ask_with(host: &str, request: &str, body: &[u8]) -> Answer {
    let mut bytes = Vec::new();
    send(host, request, body).read_to_end(&mut bytes).unwrap();
    split(&bytes)
}

fn ask(registry: &Registry, request: &str) -> Answer {
    ask_with(registry.host(), request, b"")
}

/// Returns whether an open connection has nothing to read for a while.
fn is_silent(mut stream: &TcpStream) -> bool {
    stream.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
    let read = stream.read(&mut [0]);
    stream.set_read_timeout(None).unwrap();
    read.is_err_and(|error| error.kind() == ErrorKind::WouldBlock)
}

/// Returns a registry with one blob, and the blob's address.
fn with_blob(bytes: &[u8]) -> (Registry, String) {
    let registry = Registry::start();
    let digest = registry.put_blob("app", bytes);
    (registry, format!("/v2/app/blobs/{digest}"))
}

#[test]
fn bodies_are_wrong_short_or_slow() {
    let (registry, blob) = with_blob(b"0123456789");
    let get = || ask(&registry, &format!("GET {blob}"));
    let meet = |fault: Fault| {
        registry.clear_faults();
        registry.on(Matcher::get("/v2/app/blobs/*"), fault);
        get()
    };
    assert_eq!(get().text(), "0123456789");
    assert_eq!(meet(Fault::FlipByte(3)).text(), "0122456789");
    assert_eq!(meet(Fault::Body(b"other".to_vec())).text(), "other");

    let short = meet(Fault::Truncate(4));
    assert_eq!((short.text(), short.header("Content-Length")), ("0123", Some("10")));
    assert_eq!(registry.log().last().unwrap().sent, 4);

    let begun = Instant::now();
    assert_eq!(meet(Fault::Drip(Duration::from_millis(20))).text(), "0123456789");
    assert!(begun.elapsed() >= Duration::from_millis(180), "{:?}", begun.elapsed());

    let long = meet(Fault::header("Content-Length", "4"));
    assert_eq!((long.text(), long.header("Content-Length")), ("0123456789", Some("4")));

    // A panic of the registry's own thread ends the connection, and nothing else.
    registry.clear_faults();
    registry.on(Matcher::get("*"), Fault::FlipByte(10));
    let mut nothing = Vec::new();
    send(registry.host(), &format!("GET {blob}"), b"").read_to_end(&mut nothing).unwrap();
    assert!(nothing.is_empty());

    // The next request on the same matcher is honest again where the fault is for one.
    registry.clear_faults();
    registry.on(Matcher::get("*").nth(2), Fault::status(502));
    assert_eq!([get().status, get().status, get().status], [200, 502, 200]);
    registry.clear_faults();
    registry.on(Matcher::get("*").first(1), Fault::status(500)).on(Matcher::get("*").after(2), Fault::status(503));
    assert_eq!([get().status, get().status, get().status, get().status], [500, 200, 503, 503]);
}

#[test]
fn a_stall_lasts_until_the_registry_is_dropped() {
    let (registry, blob) = with_blob(b"0123456789");
    registry.on(Matcher::get("*"), Fault::Stall(5));
    let mut stream = send(registry.host(), &format!("GET {blob}"), b"");
    let mut bytes = Vec::new();
    while !bytes.ends_with(b"\r\n\r\n01234") {
        let mut byte = [0];
        stream.read_exact(&mut byte).unwrap();
        bytes.extend_from_slice(&byte);
    }
    assert!(is_silent(&stream));
    drop(registry);
    assert_eq!(stream.read_to_end(&mut bytes).unwrap(), 0, "closed");
}

#[test]
fn endless_bodies_end_when_the_client_does() {
    let registry = Registry::builder().auth(Auth::Bearer(Bearer::anonymous())).start();
    registry.on(Matcher::get("/token"), Fault::Endless);
    registry.on(Matcher::get("/v2/app/manifests/*"), Fault::error(500, "UNKNOWN", "long"));
    registry.on(Matcher::get("/v2/app/manifests/*"), Fault::Endless);
    for target in ["/token?scope=repository:app:pull", "/v2/app/manifests/1"] {
        let mut stream = send(registry.host(), &format!("GET {target}"), b"");
        let mut bytes = vec![0; 2 << 20];
        stream.read_exact(&mut bytes).unwrap();
        assert!(split(&bytes[..1000]).head.contains("Transfer-Encoding: chunked"));
        drop(stream);
    }
    for exchange in registry.log() {
        assert!((1 << 20..16 << 20).contains(&exchange.sent), "{}: {}", exchange.line(), exchange.sent);
    }
}

#[test]
fn connections_are_closed_or_refused() {
    let (registry, blob) = with_blob(b"0123456789");
    registry.on(Matcher::get("*").nth(1), Fault::Close);
    let mut bytes = Vec::new();
    send(registry.host(), &format!("GET {blob}"), b"").read_to_end(&mut bytes).unwrap();
    assert_eq!((bytes.len(), registry.log()[0].status), (0, None));
    assert_eq!(ask(&registry, &format!("GET {blob}")).status, 200);

    registry.on(Matcher::head("*"), Fault::StopListening);
    send(registry.host(), &format!("HEAD {blob}"), b"").read_to_end(&mut bytes).unwrap();
    assert_eq!(TcpStream::connect(registry.host()).unwrap_err().kind(), ErrorKind::ConnectionRefused);
    registry.listen_again();
    assert_eq!(ask(&registry, &format!("GET {blob}")).status, 200);
}

#[test]
fn answers_are_whatever_a_test_says() {
    let (registry, blob) = with_blob(b"0123456789");
    let meet = |fault: Fault| {
        registry.clear_faults();
        registry.on(Matcher::get("/v2/app/blobs/sha256:*"), fault);
        ask(&registry, &format!("GET {blob}?x=y"))
    };
    let busy = meet(Fault::too_many_requests("Wed, 21 Oct 2026 07:28:00 GMT"));
    assert_eq!((busy.status, busy.header("Retry-After")), (429, Some("Wed, 21 Oct 2026 07:28:00 GMT")));
    let moved = meet(Fault::redirect(308, "https://127.0.0.1:1/{target}"));
    assert_eq!(moved.header("Location").unwrap(), format!("https://127.0.0.1:1{blob}?x=y"));
    assert_eq!(moved.status, 308);
    let colourful = meet(Fault::error(400, "UNKNOWN", "\u{1b}[31mred\nline"));
    assert!(colourful.text().contains("\\u001b[31mred\\nline"), "{}", colourful.text());
    let coded = meet(Fault::header("Content-Encoding", "gzip"));
    assert_eq!((coded.header("Content-Encoding"), coded.text()), (Some("gzip"), "0123456789"));
    let lying = meet(Fault::header("Docker-Content-Digest", "sha256:00"));
    assert_eq!(lying.header("Docker-Content-Digest"), Some("sha256:00"));
    assert_eq!(meet(Fault::without_header("docker-content-digest")).header("Docker-Content-Digest"), None);

    registry.clear_faults();
    registry.on(Matcher::get("/v2/app/tags/list"), Fault::header("Link", "</{target}>; rel=\"next\""));
    let tags = ask(&registry, "GET /v2/app/tags/list?n=1");
    assert_eq!(tags.header("Link"), Some("</v2/app/tags/list?n=1>; rel=\"next\""));
}

#[test]
fn ranges_are_kept_or_lied_about() {
    let (registry, blob) = with_blob(b"0123456789");
    let part = |range: &str| {
        let answer = ask(&registry, &format!("GET {blob}\nRange: {range}"));
        let range = answer.header("Content-Range").unwrap_or_default().to_owned();
        (answer.status, range, answer.text().to_owned())
    };
    let said = |status, range: &str, body: &str| (status, range.to_owned(), body.to_owned());
    for (range, expected) in [
        ("bytes=2-4", said(206, "bytes 2-4/10", "234")),
        ("bytes=7-", said(206, "bytes 7-9/10", "789")),
        ("bytes=7-99", said(206, "bytes 7-9/10", "789")),
        ("bytes=-2", said(206, "bytes 8-9/10", "89")),
        ("bytes=1-2,4-5", said(200, "", "0123456789")),
        ("lines=1-2", said(200, "", "0123456789")),
    ] {
        assert_eq!(part(range), expected, "{range}");
    }
    let beyond = part("bytes=10-");
    assert_eq!((beyond.0, beyond.1.as_str()), (416, "bytes */10"));
    registry.on(Matcher::get("*").nth(1), Fault::IgnoreRange);
    registry.on(Matcher::get("*").nth(2), Fault::UnaskedRange(1, 3));
    registry.on(Matcher::get("*").nth(3), Fault::header("Content-Range", "bytes 0-2/10"));
    assert_eq!(part("bytes=5-"), said(200, "", "0123456789"));
    assert_eq!(ask(&registry, &format!("GET {blob}")).text(), "123");
    assert_eq!(part("bytes=7-"), said(206, "bytes 0-2/10", "789"));
}

#[test]
fn uploads_go_in_pieces_and_break() {
    let registry = Registry::builder().chunk_min_length(5).start();
    let digest = sha256_digest(b"0123456789");
    let begin = || {
        let begun = ask(&registry, "POST /v2/app/blobs/uploads/");
        assert_eq!((begun.status, begun.header("OCI-Chunk-Min-Length")), (202, Some("5")));
        begun.header("Location").unwrap().to_owned()
    };
    let patch = |place: &str, range: &str, body: &[u8]| {
        ask_with(registry.host(), &format!("PATCH {place}\nContent-Range: {range}"), body)
    };
    let place = begin();
    let first = patch(&place, "0-4", b"01234");
    assert_eq!((first.status, first.header("Range")), (202, Some("0-4")));
    let newer = first.header("Location").unwrap();
    assert_eq!(patch(&place, "5-9", b"56789").status, 400, "not the newest address");
    let gap = patch(newer, "6-9", b"6789");
    assert_eq!((gap.status, gap.header("Range")), (416, Some("0-4")));
    let end = ask_with(registry.host(), &format!("PUT {newer}&digest={digest}"), b"56789");
    assert_eq!((end.status, end.header("Docker-Content-Digest")), (201, Some(digest.as_str())));
    assert_eq!(registry.blob("app", &digest).unwrap().as_slice(), b"0123456789");

    // Broken in the middle: what came is kept, and the status says how much that is.
    let place = begin();
    registry.on(Matcher::patch("*").first(1), Fault::BreakUpload(3));
    let mut nothing = Vec::new();
    // The bytes that are not read make the kernel reset the connection.
    let closed = send(registry.host(), &format!("PATCH {place}"), b"0123456789").read_to_end(&mut nothing);
    assert!(closed.is_err() || nothing.is_empty());
    let status = ask(&registry, &format!("GET {place}"));
    assert_eq!((status.status, status.header("Range")), (204, Some("0-2")));
    assert_eq!(registry.requests("PATCH", "").last().unwrap().received, 3);
    assert_eq!(patch(status.header("Location").unwrap(), "3-9", b"3456789").status, 202);

    registry.on(Matcher::patch("*"), Fault::ForgetUploads);
    let forgotten = patch(&begin(), "0-1", b"01");
    assert!(forgotten.status == 404 && forgotten.text().contains("BLOB_UPLOAD_UNKNOWN"));

    let at_once = format!("POST /v2/one/blobs/uploads/?digest={digest}");
    assert_eq!(ask_with(registry.host(), &at_once, b"0123456789").status, 201);
    assert_eq!(ask_with(registry.host(), &at_once, b"other").status, 400);

    let mount = |from: &str| ask(&registry, &format!("POST /v2/two/blobs/uploads/?mount={digest}&from={from}")).status;
    assert_eq!((mount("none"), mount("one")), (202, 201));
    registry.remove_blob("two", &digest);
    registry.on(Matcher::post("/v2/two/*").nth(1), Fault::RefuseMount);
    registry.on(Matcher::post("/v2/two/*").nth(2), Fault::FalseMount);
    assert_eq!((mount("one"), mount("none")), (202, 201));
    assert!(registry.blob("two", &digest).is_none());
}

#[test]
fn bodies_come_in_chunks_or_when_they_are_awaited() {
    let registry = Registry::builder().auth(Auth::basic("anna", "secret")).start();
    let expecting = "POST /v2/app/blobs/uploads/?digest=sha256:00\nExpect: 100-continue\nContent-Length: 5";
    // Refused before the body, which is then not awaited.
    assert_eq!(ask(&registry, expecting).status, 401);
    registry.set_auth(Auth::None);
    let mut stream = send(registry.host(), expecting, b"");
    let mut interim = [0; 25];
    stream.read_exact(&mut interim).unwrap();
    assert_eq!(&interim, b"HTTP/1.1 100 Continue\r\n\r\n");
    stream.write_all(b"12345").unwrap();
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).unwrap();
    assert_eq!(split(&bytes).status, 400);

    let digest = sha256_digest(b"0123456789");
    let request = format!("POST /v2/app/blobs/uploads/?digest={digest}\nTransfer-Encoding: chunked");
    let mut stream = send(registry.host(), &request, b"");
    stream.write_all(b"4\r\n0123\r\n6;x=y\r\n456789\r\n0\r\n\r\n").unwrap();
    bytes.clear();
    stream.read_to_end(&mut bytes).unwrap();
    assert_eq!(split(&bytes).status, 201);
    assert_eq!(registry.log().last().unwrap().received, 10);

    // Two requests on one connection.
    let mut stream = TcpStream::connect(registry.host()).unwrap();
    stream.write_all(b"HEAD /v2/ HTTP/1.1\r\n\r\nGET /v2/ HTTP/1.1\r\nConnection: close\r\n\r\n").unwrap();
    bytes.clear();
    stream.read_to_end(&mut bytes).unwrap();
    assert_eq!(String::from_utf8(bytes).unwrap().matches("200 OK").count(), 2);
    let log = registry.log();
    assert_eq!(log[log.len() - 1].connection, log[log.len() - 2].connection);
}

#[test]
fn manifests_are_judged_and_referred_to() {
    let registry = Registry::start();
    let image = ImageBuilder::oci().build();
    let put = |name: &str, body: &[u8]| {
        ask_with(registry.host(), &format!("PUT /v2/app/manifests/{name}\nContent-Type: {OCI_MANIFEST}"), body)
    };
    assert!(put("1", &image.manifest).text().contains("MANIFEST_BLOB_UNKNOWN"));
    let digest = registry.put_image(&image, "app", "1");
    assert_eq!(put(&digest, &image.manifest).status, 201);
    assert!(put(&sha256_digest("other"), &image.manifest).text().contains("DIGEST_INVALID"));
    assert!(put("1", b"[]").text().contains("MANIFEST_INVALID"));
    registry.on(Matcher::put("*/manifests/2"), Fault::header("Docker-Content-Digest", sha256_digest("other")));
    assert_eq!(put("2", &image.manifest).header("Docker-Content-Digest"), Some(sha256_digest("other").as_str()));

    let subject = serde_json::json!({"mediaType": OCI_MANIFEST, "digest": digest, "size": image.manifest.len()});
    let artifact = ImageBuilder::oci()
        .manifest_field("subject", subject)
        .manifest_field("artifactType", "test/x".into())
        .annotation("key", "value")
        .build();
    registry.put_image(&artifact, "app", "artifact");
    let answer = put(&artifact.digest(), &artifact.manifest);
    assert_eq!(answer.header("OCI-Subject"), Some(digest.as_str()));
    let list = ask(&registry, &format!("GET /v2/app/referrers/{digest}?artifactType=test/x"));
    assert_eq!(
        (list.header("OCI-Filters-Applied"), list.header("Content-Type")),
        (Some("artifactType"), Some(OCI_INDEX))
    );
    let list: serde_json::Value = serde_json::from_slice(&list.body).unwrap();
    assert_eq!(list["manifests"][0]["digest"], artifact.digest());
    assert_eq!(list["manifests"][0]["artifactType"], "test/x");
    assert_eq!(list["manifests"][0]["annotations"]["key"], "value");
    assert_eq!(
        ask(&Registry::builder().without_referrers().start(), &format!("GET /v2/app/referrers/{digest}")).status,
        404
    );

    let wrong = ask(&registry, &format!("GET /v2/app/manifests/1\nAccept: {OCI_INDEX}"));
    assert_eq!(wrong.status, 404, "the client must accept what it gets");
    let head = ask(&registry, "HEAD /v2/app/manifests/1");
    assert_eq!((head.status, head.header("Content-Length").unwrap().parse()), (200, Ok(image.manifest.len())));
    assert_eq!(ask(&registry, "DELETE /v2/app/manifests/1").status, 202);
    assert_eq!(registry.tags("app"), ["2", "artifact"]);
}

#[test]
fn tags_come_in_pages() {
    let registry = Registry::builder().page_size(2).start();
    let digest = registry.put_image(&ImageBuilder::oci().build(), "app", "a");
    for tag in ["b", "c d", "e"] {
        registry.put_tag("app", tag, &digest);
    }
    let first = ask(&registry, "GET /v2/app/tags/list?n=100");
    assert_eq!(first.text(), r#"{"name":"app","tags":["a","b"]}"#);
    assert_eq!(first.header("Link"), Some("</v2/app/tags/list?n=2&last=b>; rel=\"next\""));
    let second = ask(&registry, "GET /v2/app/tags/list?n=1&last=b");
    assert_eq!(second.header("Link"), Some("</v2/app/tags/list?n=1&last=c%20d>; rel=\"next\""));
    let third = ask(&registry, "GET /v2/app/tags/list?n=2&last=c%20d");
    assert_eq!((third.text(), third.header("Link")), (r#"{"name":"app","tags":["e"]}"#, None));
}

#[test]
fn tokens_are_fetched_expire_and_refresh() {
    let bearer = Bearer::user("anna", "secret").or_anonymous().refresh_token("rrr", "anna");
    let registry = Registry::builder().auth(Auth::Bearer(bearer.clone())).start();
    registry.put_image(&ImageBuilder::oci().build(), "app", "1");
    let get = |token: &str| ask(&registry, &format!("GET /v2/app/manifests/1\nAuthorization: Bearer {token}"));
    let denied = ask(&registry, "GET /v2/app/manifests/1");
    let challenge =
        format!("Bearer realm=\"{}/token\",service=\"registry.test\",scope=\"repository:app:pull\"", registry.url());
    assert_eq!((denied.status, denied.header("WWW-Authenticate")), (401, Some(challenge.as_str())));

    let token_of = |answer: Answer| {
        let document: serde_json::Value = serde_json::from_slice(&answer.body).unwrap();
        document["access_token"].as_str().unwrap().to_owned()
    };
    let anonymous = token_of(ask(&registry, "GET /token?scope=repository:app:pull,push"));
    assert_eq!(get(&anonymous).status, 200);
    let push = |token: &str| ask(&registry, &format!("POST /v2/app/blobs/uploads/\nAuthorization: Bearer {token}"));
    assert!(push(&anonymous).header("WWW-Authenticate").unwrap().ends_with("error=\"insufficient_scope\""));

    let form = b"grant_type=refresh_token&refresh_token=rrr&scope=repository%3Aapp%3Apull%2Cpush&service=registry.test";
    let refreshed = token_of(ask_with(registry.host(), "POST /token", form));
    assert_eq!(registry.requests("POST", "/token")[0].body, form);
    assert_eq!(push(&refreshed).status, 202);
    let wrong = b"grant_type=refresh_token&refresh_token=other&scope=repository:app:pull";
    assert_eq!(ask_with(registry.host(), "POST /token", wrong).status, 401);
    assert_eq!(ask(&registry, "GET /token\nAuthorization: Basic YW5uYTp3cm9uZw==").status, 401);
    assert_eq!(registry.token_requests(), 4);

    registry.revoke_tokens();
    assert!(get(&refreshed).header("WWW-Authenticate").unwrap().ends_with("error=\"invalid_token\""));
    registry.set_auth(Auth::Bearer(Bearer { lifetime: Duration::ZERO, ..bearer }));
    let short = token_of(ask(&registry, "GET /token?scope=repository:app:pull"));
    assert_eq!(get(&short).status, 401);
}

#[test]
fn speed_has_a_limit() {
    let (registry, blob) = with_blob(&[7; 30_000]);
    registry.throttle(100_000);
    let begun = Instant::now();
    assert_eq!(ask(&registry, &format!("GET {blob}")).body.len(), 30_000);
    assert!(begun.elapsed() >= Duration::from_millis(250), "{:?}", begun.elapsed());
}

#[test]
fn files_alone_are_a_registry() {
    let dir = tempfile::tempdir().unwrap();
    let registry = Registry::start();
    let image = ImageBuilder::oci().layer("layer").build();
    let digest = registry.put_image(&image, "team/app", "1");
    registry.write_static(dir.path());
    let files = StaticRegistry::start(dir.path());
    let answer = ask_with(files.host(), &format!("GET /v2/team/app/manifests/{digest}"), b"");
    assert!(answer.head.starts_with("HTTP/1.0 200 "), "{}", answer.head);
    assert_eq!(answer.header("Content-Type"), Some("application/octet-stream"));
    assert_eq!((answer.header("Docker-Content-Digest"), &answer.body), (None, &image.manifest));
    assert_eq!(ask_with(files.host(), "GET /v2/", b"").status, 200);
    assert_eq!(ask_with(files.host(), "GET /v2/../../etc/passwd", b"").status, 404);
    assert_eq!(ask_with(files.host(), "PUT /v2/x", b"y").status, 405);
    assert_eq!(files.log().len(), 4);
    let guessing = StaticRegistry::start_with(dir.path(), FileType::Guessed);
    let answer = ask_with(guessing.host(), "GET /v2/team/app/manifests/1", b"");
    assert_eq!(answer.header("Content-Type"), Some(OCI_MANIFEST));
}

#[test]
fn the_proxy_counts_cuts_and_stalls() {
    let (registry, blob) = with_blob(&[7; 100_000]);
    let proxy = Proxy::start(registry.host());
    let get = || {
        let mut bytes = Vec::new();
        // A cut may come as a reset.
        let _ = send(proxy.host(), &format!("GET {blob}"), b"").read_to_end(&mut bytes);
        bytes.len() as u64
    };
    let whole = get();
    assert!(whole > 100_000);
    assert_eq!((proxy.total().to_client, proxy.connections().len()), (whole, 1));
    proxy.cut_after(5000);
    assert_eq!((get(), get()), (5000, whole), "cut once");
    assert_eq!(proxy.connections()[1].to_client, 5000);

    proxy.stall_after(5000);
    let mut stream = send(proxy.host(), &format!("GET {blob}"), b"");
    stream.read_exact(&mut [0; 5000]).unwrap();
    assert!(is_silent(&stream));
    proxy.honest();
    assert_eq!(get(), whole);
    proxy.stop_listening();
    assert!(TcpStream::connect(proxy.host()).is_err());
}
