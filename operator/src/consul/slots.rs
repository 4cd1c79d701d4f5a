//! Connections to one agent, which accepts 200 of one client unless configured otherwise (`http_max_conns_per_client`).
//! More services than that take turns, with shorter queries.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::sync::{Semaphore, SemaphorePermit};

/// Connections at a time.
const CONNECTIONS: usize = 150;
/// The time in which all services that take turns have one.
const ROUND: Duration = Duration::from_secs(10);
/// Longest turn.
const TURN: Duration = Duration::from_secs(1);

/// The connections to an agent.
#[derive(Debug)]
pub(super) struct Slots {
    connections: Semaphore,
    services: AtomicUsize,
}

impl Default for Slots {
    fn default() -> Self {
        Self {
            connections: Semaphore::new(CONNECTIONS),
            services: AtomicUsize::new(0),
        }
    }
}

/// One of the services that share an agent, until it is dropped.
#[derive(Debug)]
pub(super) struct Guest(Arc<Slots>);

impl Slots {
    /// One more service.
    pub(super) fn enter(self: &Arc<Self>) -> Guest {
        self.services.fetch_add(1, Ordering::Relaxed);
        Guest(self.clone())
    }

    /// How long a query may hold a connection, if there are more services than connections.
    pub(super) fn turn(&self) -> Option<Duration> {
        let services = self.services.load(Ordering::Relaxed);
        let turn = || ROUND.mul_f64(CONNECTIONS as f64 / services as f64);
        (services > CONNECTIONS).then(|| turn().min(TURN))
    }

    /// Waits for a connection. `None` never comes: nobody closes the semaphore.
    pub(super) async fn connection(&self) -> Option<SemaphorePermit<'_>> {
        self.connections.acquire().await.ok()
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        self.0.services.fetch_sub(1, Ordering::Relaxed);
    }
}
