//! Open connections and their streams. A connection without a stream is closed after a while, and earlier if there are too
//! many connections: whoever only connects cannot keep Envoys away.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    task::Waker,
    time::Instant,
};

use futures::task::AtomicWaker;
use tokio::sync::watch;

use super::authorize::Peer;

/// All open connections. Cheap to clone: clones share their state.
#[derive(Clone, Debug, Default)]
pub(super) struct Connections {
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    next: u64,
    open: BTreeMap<u64, Open>,
    /// Those of them without a stream, oldest first.
    idle: BTreeSet<u64>,
    streams: usize,
}

#[derive(Debug)]
struct Open {
    streams: usize,
    idle_since: Instant,
    order: Arc<Order>,
}

/// Makes a connection close.
#[derive(Debug, Default)]
struct Order {
    must_close: AtomicBool,
    waker: AtomicWaker,
}

impl Connections {
    /// Adds a connection; `None` if there are `max` with streams. The oldest connection without a stream makes room.
    pub(super) fn open(&self, max: usize) -> Option<Connection> {
        let mut state = self.lock();
        if state.open.len() >= max && !state.close_idle() {
            return None;
        }
        let id = state.next;
        state.next += 1;
        let order = Arc::new(Order::default());
        let open = Open {
            streams: 0,
            idle_since: Instant::now(),
            order: order.clone(),
        };
        state.open.insert(id, open);
        state.idle.insert(id);
        Some(Connection {
            connections: self.clone(),
            id,
            order,
        })
    }

    /// Closes the oldest connection without a stream, if there is one.
    pub(super) fn close_idle(&self) -> bool {
        self.lock().close_idle()
    }

    /// Number of open streams.
    pub(super) fn streams(&self) -> usize {
        self.lock().streams
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn close_idle(&mut self) -> bool {
        let Some(open) = self.idle.pop_first().and_then(|id| self.open.get_mut(&id)) else {
            return false;
        };
        open.order.must_close.store(true, Ordering::Release);
        open.order.waker.wake();
        true
    }
}

/// An open connection, which is counted until it is dropped.
#[derive(Debug)]
pub(super) struct Connection {
    connections: Connections,
    id: u64,
    order: Arc<Order>,
}

impl Connection {
    /// Since when the connection has no stream.
    pub(super) fn idle_since(&self) -> Option<Instant> {
        let state = self.connections.lock();
        let open = state.open.get(&self.id)?;
        (open.streams == 0).then_some(open.idle_since)
    }

    /// Whether the connection must close to make room. Every read asks this, so it takes no lock.
    pub(super) fn must_close(&self) -> bool {
        self.order.must_close.load(Ordering::Acquire)
    }

    /// The task to wake when the connection must close.
    pub(super) fn register(&self, waker: &Waker) {
        self.order.waker.register(waker);
    }

    /// What requests of this connection of a peer get. Its streams end when `closing` is true.
    pub(super) fn info(&self, peer: Peer, closing: watch::Receiver<bool>) -> ConnectInfo {
        ConnectInfo {
            connections: self.connections.clone(),
            id: self.id,
            peer: Arc::new(peer),
            closing,
        }
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        let mut state = self.connections.lock();
        state.idle.remove(&self.id);
        state.open.remove(&self.id);
    }
}

/// The connection of a request.
#[derive(Clone, Debug)]
pub(super) struct ConnectInfo {
    connections: Connections,
    id: u64,
    /// Who is at the other end.
    pub(super) peer: Arc<Peer>,
    /// Becomes true when the connection ends.
    pub(super) closing: watch::Receiver<bool>,
}

impl ConnectInfo {
    /// Adds a stream, which is counted until it is dropped.
    pub(super) fn stream(&self) -> OpenStream {
        let mut state = self.connections.lock();
        state.streams += 1;
        state.idle.remove(&self.id);
        if let Some(open) = state.open.get_mut(&self.id) {
            open.streams += 1;
        }
        drop(state);
        OpenStream(self.clone())
    }
}

/// An open stream.
#[derive(Debug)]
pub(super) struct OpenStream(ConnectInfo);

impl Drop for OpenStream {
    fn drop(&mut self) {
        let ConnectInfo {
            connections, id, ..
        } = &self.0;
        let mut state = connections.lock();
        state.streams -= 1;
        let Some(open) = state.open.get_mut(id) else {
            return;
        };
        open.streams -= 1;
        if open.streams == 0 {
            open.idle_since = Instant::now();
            state.idle.insert(*id);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn idle_connections_make_room_for_new_ones() {
        let connections = Connections::default();
        let info = |connection: &Connection| {
            connection.info(Peer::Unauthenticated, watch::channel(false).1)
        };
        let first = connections.open(2).unwrap();
        let stream = info(&first).stream();
        let second = connections.open(2).unwrap();
        let third = connections.open(2).unwrap();
        assert!(!first.must_close());
        assert!(second.must_close(), "the oldest without a stream");
        assert!(!third.must_close());
        let other = info(&third).stream();
        drop(second);
        assert!(connections.open(2).is_none(), "all have streams");
        assert_eq!(connections.streams(), 2);
        drop((stream, other));
        assert_eq!(connections.streams(), 0);
        assert!(connections.open(2).is_some());
    }
}
