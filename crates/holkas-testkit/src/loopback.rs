//! A listening socket on the loopback interface with a thread for each connection; dropped, all of it ends.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread::JoinHandle;
use std::time::Duration;

/// What is called with each connection, on a thread of its own.
pub(crate) type Serve = dyn Fn(Accepted) + Send + Sync;

/// A connection that was accepted.
pub(crate) struct Accepted {
    pub(crate) stream: TcpStream,
    /// Counts from zero, in the order of acceptance.
    pub(crate) number: usize,
    pub(crate) closing: Arc<Closing>,
}

/// Says that the listener is being dropped, to threads that wait.
#[derive(Debug, Default)]
pub(crate) struct Closing {
    is_closing: Mutex<bool>,
    changed: Condvar,
}

impl Closing {
    /// Waits `time`, or less if the listener is dropped meanwhile; returns whether it was.
    pub(crate) fn wait(&self, time: Duration) -> bool {
        let guard = self.is_closing.lock().expect("no thread panics with it");
        *self.changed.wait_timeout_while(guard, time, |closing| !*closing).expect("no thread panics with it").0
    }

    /// Waits until the listener is dropped.
    pub(crate) fn wait_until_closed(&self) {
        let guard = self.is_closing.lock().expect("no thread panics with it");
        drop(self.changed.wait_while(guard, |closing| !*closing).expect("no thread panics with it"));
    }

    fn close(&self) {
        *self.is_closing.lock().expect("no thread panics with it") = true;
        self.changed.notify_all();
    }

    fn is_closed(&self) -> bool {
        *self.is_closing.lock().expect("no thread panics with it")
    }
}

/// A listener on `127.0.0.1` and a free port.
pub(crate) struct Listener {
    port: u16,
    shared: Arc<Shared>,
    accepting: Mutex<Option<JoinHandle<()>>>,
}

struct Shared {
    serve: Box<Serve>,
    closing: Arc<Closing>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    is_listening: bool,
    accepted: usize,
    open: BTreeMap<usize, TcpStream>,
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no thread panics with it")
    }
}

impl Listener {
    /// Binds a free port, so that its number is known to what serves it. Nothing is accepted before [`Listener::start`].
    pub(crate) fn bind() -> TcpListener {
        TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("the loopback interface has a free port")
    }

    /// Accepts connections of `socket` and has each served.
    pub(crate) fn start(socket: TcpListener, serve: Box<Serve>) -> Self {
        let port = socket.local_addr().expect("a bound socket has an address").port();
        let shared = Arc::new(Shared { serve, closing: Arc::default(), state: Mutex::default() });
        let listener = Self { port, shared, accepting: Mutex::new(None) };
        listener.accept_from(socket);
        listener
    }

    /// Closes the listening socket, so that new connections are refused; those that are open stay.
    pub(crate) fn stop(&self) {
        let mut accepting = self.accepting.lock().expect("no thread panics with it");
        self.shared.state().is_listening = false;
        if let Some(thread) = accepting.take() {
            // The thread waits in accept(); this connection wakes it. Refused, it is on its way out already.
            drop(TcpStream::connect((Ipv4Addr::LOCALHOST, self.port)));
            thread.join().expect("accepting does not panic");
        }
    }

    /// Listens on the same port again.
    pub(crate) fn resume(&self) {
        let socket = TcpListener::bind((Ipv4Addr::LOCALHOST, self.port)).expect("the port is still free");
        self.accept_from(socket);
    }

    /// Returns how many connections were accepted so far.
    pub(crate) fn accepted(&self) -> usize {
        self.shared.state().accepted
    }

    /// Cuts all open connections.
    pub(crate) fn cut(&self) {
        for stream in self.shared.state().open.values() {
            // It may be gone already.
            let _ = stream.shutdown(Shutdown::Both);
        }
    }

    /// Ends all: nothing is accepted any more, what waits stops waiting, and open connections are cut.
    pub(crate) fn close(&self) {
        self.stop();
        self.shared.closing.close();
        self.cut();
    }

    fn accept_from(&self, socket: TcpListener) {
        let mut accepting = self.accepting.lock().expect("no thread panics with it");
        assert!(accepting.is_none(), "it listens already");
        self.shared.state().is_listening = true;
        let shared = Arc::clone(&self.shared);
        *accepting = Some(std::thread::spawn(move || accept(&socket, &shared)));
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.close();
    }
}

fn accept(socket: &TcpListener, shared: &Arc<Shared>) {
    while let Ok((stream, _)) = socket.accept() {
        let mut state = shared.state();
        if !state.is_listening {
            return;
        }
        // The peer may have hung up already; then there is nothing to serve.
        let Ok(second) = stream.try_clone() else { continue };
        let number = state.accepted;
        state.accepted += 1;
        state.open.insert(number, second);
        drop(state);
        let open = Open { shared: Arc::clone(shared), number };
        std::thread::spawn(move || {
            let closing = Arc::clone(&open.shared.closing);
            if !closing.is_closed() {
                (open.shared.serve)(Accepted { stream, number, closing });
            }
        });
    }
}

/// A connection that is open until this is dropped, which is also when its thread panics.
struct Open {
    shared: Arc<Shared>,
    number: usize,
}

impl Drop for Open {
    fn drop(&mut self) {
        // A poisoned lock is of a panic that was told already; a second one here would end the process.
        if let Ok(mut state) = self.shared.state.lock()
            && let Some(stream) = state.open.remove(&self.number)
        {
            // The clone holds the socket open, so the peer sees the end only now. It may have gone first.
            let _ = stream.shutdown(Shutdown::Both);
        }
    }
}
