//! A TCP proxy on the loopback interface that counts bytes, and can be slow, silent or gone.
//!
//! It knows nothing of HTTP or TLS: what it counts is all that the wire carries.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use crate::loopback::{Accepted, Closing, Listener};

/// Bytes are carried in pieces of this length.
const PIECE: usize = 16 * 1024;

/// Forwards connections to another port.
///
/// ```
/// use holkas_testkit::{proxy::Proxy, registry::Registry};
/// let registry = Registry::start();
/// let proxy = Proxy::start(registry.host());
/// assert_ne!(proxy.host(), registry.host());
/// assert_eq!(proxy.total().to_client, 0);
/// ```
pub struct Proxy {
    host: String,
    shared: Arc<Shared>,
    listener: Listener,
}

/// How many bytes a connection carried.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Traffic {
    /// From the client to the server.
    pub to_server: u64,
    /// From the server to the client.
    pub to_client: u64,
}

#[derive(Debug, Default)]
struct Shared {
    target: String,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    connections: Vec<Traffic>,
    throttle: Option<u64>,
    /// What happens when so many more bytes went to clients.
    trouble: Option<(Trouble, u64)>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Trouble {
    Cut,
    Stall,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Direction {
    ToServer,
    ToClient,
}

impl Proxy {
    /// Forwards to `target`: `127.0.0.1:PORT`.
    pub fn start(target: &str) -> Self {
        let socket = Listener::bind();
        let host = socket.local_addr().expect("a bound socket has an address").to_string();
        let shared = Arc::new(Shared { target: target.to_owned(), state: Mutex::default() });
        let own = Arc::clone(&shared);
        let listener = Listener::start(socket, Box::new(move |accepted| forward(&own, accepted)));
        Self { host, shared, listener }
    }

    /// Returns `127.0.0.1:PORT`.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// Returns what each connection carried so far, in the order in which they began.
    pub fn connections(&self) -> Vec<Traffic> {
        self.shared.state().connections.clone()
    }

    /// Returns what all connections carried so far.
    pub fn total(&self) -> Traffic {
        self.connections().iter().fold(Traffic::default(), |sum, one| Traffic {
            to_server: sum.to_server + one.to_server,
            to_client: sum.to_client + one.to_client,
        })
    }

    /// Carries at most so many bytes in a second from now on, in each direction of each connection.
    pub fn throttle(&self, bytes_per_second: u64) {
        assert!(bytes_per_second > 0, "for nothing at all there is stall_after");
        self.shared.state().throttle = Some(bytes_per_second);
    }

    /// Cuts, once, the connection that carries the byte after so many more to clients. Later connections are carried.
    pub fn cut_after(&self, bytes: u64) {
        self.shared.state().trouble = Some((Trouble::Cut, bytes));
    }

    /// Carries so many more bytes to clients, and then none, until [`Proxy::honest`] and in new connections only.
    pub fn stall_after(&self, bytes: u64) {
        self.shared.state().trouble = Some((Trouble::Stall, bytes));
    }

    /// Carries all, as fast as it can.
    pub fn honest(&self) {
        let mut state = self.shared.state();
        (state.throttle, state.trouble) = (None, None);
    }

    /// Cuts all open connections.
    pub fn cut(&self) {
        self.listener.cut();
    }

    /// Refuses new connections.
    pub fn stop_listening(&self) {
        self.listener.stop();
    }

    /// Listens on the same port again.
    pub fn listen_again(&self) {
        self.listener.resume();
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        // Connections hold what is shared, not the listener.
        self.listener.close();
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no thread panics with it")
    }

    /// Counts bytes before they are carried, and returns how many may be, and what happens then.
    fn account(&self, number: usize, direction: Direction, bytes: usize) -> (usize, Option<Trouble>) {
        let mut state = self.state();
        let mut allowed = (bytes, None);
        if let (Direction::ToClient, Some((trouble, left))) = (direction, state.trouble) {
            if left < bytes as u64 {
                allowed = (usize::try_from(left).expect("less than a piece"), Some(trouble));
                state.trouble = if trouble == Trouble::Stall { Some((trouble, 0)) } else { None };
            } else {
                state.trouble = Some((trouble, left - bytes as u64));
            }
        }
        let traffic = &mut state.connections[number];
        match direction {
            Direction::ToServer => traffic.to_server += allowed.0 as u64,
            Direction::ToClient => traffic.to_client += allowed.0 as u64,
        }
        allowed
    }
}

fn forward(shared: &Arc<Shared>, accepted: Accepted) {
    let Accepted { stream: client, closing, .. } = accepted;
    let number = {
        let mut state = shared.state();
        state.connections.push(Traffic::default());
        state.connections.len() - 1
    };
    // A server that is gone refuses; the client sees its connection closed.
    let Ok(server) = TcpStream::connect(&shared.target) else { return };
    for stream in [&client, &server] {
        stream.set_nodelay(true).expect("a socket takes TCP_NODELAY");
        rustix::net::sockopt::set_socket_send_buffer_size(stream, 64 * 1024).expect("a socket takes SO_SNDBUF");
    }
    std::thread::scope(|scope| {
        scope.spawn(|| pump(shared, number, Direction::ToServer, &client, &server, &closing));
        pump(shared, number, Direction::ToClient, &server, &client, &closing);
    });
}

fn pump(shared: &Shared, number: usize, direction: Direction, from: &TcpStream, to: &TcpStream, closing: &Closing) {
    let (mut from_reader, mut to_writer) = (from, to);
    let mut buffer = vec![0; PIECE];
    loop {
        let throttle = shared.state().throttle;
        let step = throttle.map_or(PIECE, |limit| usize::try_from(limit / 16).unwrap_or(PIECE).clamp(1, PIECE));
        let length = from_reader.read(&mut buffer[..step]).unwrap_or(0);
        if length == 0 {
            // One side may be done before the other; it may also be gone already.
            let _ = to.shutdown(Shutdown::Write);
            return;
        }
        let (allowed, trouble) = shared.account(number, direction, length);
        let is_written = to_writer.write_all(&buffer[..allowed]).is_ok();
        if trouble == Some(Trouble::Stall) {
            closing.wait_until_closed();
        }
        if !is_written || trouble.is_some() {
            for stream in [from, to] {
                // It may be gone already.
                let _ = stream.shutdown(Shutdown::Both);
            }
            return;
        }
        if let Some(limit) = throttle
            && closing.wait(Duration::from_secs_f64(length as f64 / limit as f64))
        {
            return;
        }
    }
}
