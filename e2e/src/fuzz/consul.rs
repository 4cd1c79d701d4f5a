//! What is known of the services of Consul that a batch uses: as if some agents answered, and others did not exist.

use std::{
    collections::BTreeSet,
    net::{Ipv4Addr, Ipv6Addr},
};

use nuncio_core::{
    change::Change,
    consul::{ConsulService, ConsulState},
    store::Store,
};

/// How often a Store may want others once it has an answer.
const ROUNDS: usize = 8;

/// The services of which a Store has been told something.
#[derive(Default)]
pub(super) struct Answers(BTreeSet<ConsulService>);

impl Answers {
    /// Answers for the services that the Store wants, until it wants no others.
    pub(super) fn give(&mut self, store: &mut Store) {
        for _ in 0..ROUNDS {
            let wanted = store.wanted_consul();
            let gone = self
                .0
                .iter()
                .filter(|service| !wanted.contains_key(*service));
            let gone: Vec<ConsulService> = gone.cloned().collect();
            let agents = wanted.into_iter();
            let queried = agents.filter_map(|(service, agent)| agent.map(|_| service));
            let new = queried.filter(|service| !self.0.contains(service));
            let new: Vec<ConsulService> = new.collect();
            if gone.is_empty() && new.is_empty() {
                return;
            }
            for service in gone {
                self.0.remove(&service);
                store.apply(Change::Consul(service, None));
            }
            for service in new {
                let state = state(&service);
                self.0.insert(service.clone());
                store.apply(Change::Consul(service, Some(state)));
            }
            store.link();
        }
    }
}

/// What is known of a service; the same each time.
fn state(service: &ConsulService) -> ConsulState {
    let v4 = (Ipv4Addr::LOCALHOST, 9).into();
    let v6 = (Ipv6Addr::LOCALHOST, 9).into();
    let name = service.to_string();
    let number: usize = name.bytes().map(usize::from).sum();
    let (addresses, is_away) = match number % 5 {
        0 => (vec![v4], false),
        1 => (vec![v4, v6], false),
        2 => (Vec::new(), false),
        3 => (Vec::new(), true),
        _ => (vec![v6], true),
    };
    ConsulState {
        addresses,
        problem: is_away.then(|| "Consul agent at 127.0.0.1:1: connection refused".to_owned()),
    }
}
