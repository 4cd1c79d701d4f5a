//! What a delta client has, as the server can know from its ACKs: that is not sent again.

use std::collections::BTreeMap;

use super::Received;
use crate::ResourceType;

type Key = (ResourceType, String);

/// Versions that the client has as far as the server knows, and responses in flight.
#[derive(Default)]
pub(super) struct Known {
    versions: BTreeMap<Key, String>,
    /// Those that the client has from an earlier stream and that are served ever since it said so. Of another version, the
    /// server only remembers that the client has one.
    listed: BTreeMap<Key, String>,
    /// Resources by nonce.
    in_flight: BTreeMap<String, Vec<(Key, String)>>,
    /// The nonce of the last response with each resource.
    last: BTreeMap<Key, String>,
}

impl Known {
    /// The client lists this version in the first request of a type, and it is served.
    pub(super) fn listed(&mut self, kind: ResourceType, name: &str, version: &str) {
        self.listed
            .insert((kind, name.to_owned()), version.to_owned());
    }

    /// What is served changes.
    pub(super) fn changed(&mut self, kind: ResourceType, name: &str) {
        self.listed.remove(&(kind, name.to_owned()));
    }

    /// The client asks for this name, or gives it up. What is in flight does not count either: the client can have had it,
    /// and have dropped it since.
    pub(super) fn asked(&mut self, kind: ResourceType, name: &str) {
        let key = (kind, name.to_owned());
        self.listed.remove(&key);
        self.versions.remove(&key);
        self.last.remove(&key);
    }

    /// The server sends a response.
    pub(super) fn sent(
        &mut self,
        kind: ResourceType,
        received: &[Received],
        removed: &[String],
        nonce: &str,
    ) {
        // endpoints follow their cluster, and the versions of secrets are not remembered
        let is_remembered = !matches!(kind, ResourceType::Endpoints | ResourceType::Secret);
        let mut resources = Vec::new();
        for Received { name, version, .. } in received {
            let key = (kind, name.clone());
            assert!(
                !is_remembered || !self.has(&key, version),
                "{kind} {name} is sent although the client has it"
            );
            resources.push((key, version.clone()));
        }
        let removed = removed.iter().map(|name| (kind, name.clone()));
        for key in removed.chain(resources.iter().map(|(key, _)| key.clone())) {
            self.listed.remove(&key);
            self.versions.remove(&key);
            self.last.insert(key, nonce.to_owned());
        }
        self.in_flight.insert(nonce.to_owned(), resources);
    }

    fn has(&self, key: &Key, version: &str) -> bool {
        let known = self.listed.get(key).or(self.versions.get(key));
        known.is_some_and(|known| known == version)
    }

    /// The server handles an ACK or NACK.
    pub(super) fn answered(&mut self, nonce: &str, accepted: bool) {
        let resources = self.in_flight.remove(nonce).unwrap_or_default();
        for (key, version) in resources {
            if accepted && self.last.get(&key).is_some_and(|last| last == nonce) {
                self.versions.insert(key, version);
            }
        }
    }
}
