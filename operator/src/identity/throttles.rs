//! A [`Throttle`] for each of many clients, in bounded memory.

use std::{
    collections::BTreeMap,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use nuncio_xds::throttle::Throttle;

/// Clients that are remembered. Beyond it those that have done nothing lately are forgotten.
const CLIENTS: usize = 10_000;

/// Permits each client a few events at once, then one per interval.
#[derive(Debug)]
pub(crate) struct Throttles<K> {
    burst: u32,
    interval: Duration,
    clients: Mutex<BTreeMap<K, Throttle>>,
}

impl<K: Ord> Throttles<K> {
    pub(crate) fn new(burst: u32, interval: Duration) -> Self {
        Self {
            burst,
            interval,
            clients: Mutex::default(),
        }
    }

    /// Whether this client may do it now.
    pub(crate) fn permits(&self, client: K) -> bool {
        let mut clients = self.clients.lock().unwrap_or_else(PoisonError::into_inner);
        if clients.len() >= CLIENTS && !clients.contains_key(&client) {
            clients.retain(|_, throttle| !throttle.is_full());
            if clients.len() >= CLIENTS {
                return false;
            }
        }
        let throttle = clients
            .entry(client)
            .or_insert_with(|| Throttle::new(self.burst, self.interval));
        throttle.permit().is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_client_has_its_own_bucket() {
        let throttles = Throttles::new(2, Duration::from_secs(3600));
        assert!(throttles.permits("a") && throttles.permits("a"));
        assert!(!throttles.permits("a"));
        assert!(throttles.permits("b"));
    }

    #[test]
    fn clients_that_are_not_limited_are_forgotten() {
        let throttles = Throttles::new(1, Duration::from_millis(1));
        for client in 0..CLIENTS {
            throttles.permits(client);
        }
        std::thread::sleep(Duration::from_millis(5));
        assert!(throttles.permits(CLIENTS));
        assert_eq!(throttles.clients.lock().unwrap().len(), 1);
    }
}
