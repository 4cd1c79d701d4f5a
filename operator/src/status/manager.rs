//! Field managers of statuses: each installation of Nuncio has a name of its own, so that two that serve the same objects
//! notice each other and do not overwrite each other without end.
//!
//! The name is `nuncio-NAMESPACE-ID`. Of two installations with one id, that whose name sorts first writes; see
//! [`super::queue`] for what the other one does.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ManagedFieldsEntry;
use nuncio_core::settings::Settings;
use xxhash_rust::xxh3::xxh3_64;

const PREFIX: &str = "nuncio-";

/// Longest name that the apiserver accepts.
const LONGEST: usize = 128;

/// The field manager of this installation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Manager {
    name: String,
    /// What installations with the same id have at the end of their names.
    suffix: String,
}

/// Another installation that writes the status of an object, and precedes this one.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Rival {
    pub(crate) name: String,
    /// When it last wrote, in seconds since the Unix epoch by the apiserver's clock.
    pub(crate) wrote: i64,
}

impl Manager {
    /// That of the installation with these settings.
    #[must_use]
    pub fn new(settings: &Settings) -> Self {
        let (namespace, id) = (&settings.ambassador_namespace, &settings.ambassador_id);
        let is_plain = id.bytes().all(|byte| byte.is_ascii_graphic());
        let is_short = PREFIX.len() + namespace.len() + 1 + id.len() <= LONGEST;
        let suffix = if is_plain && is_short {
            format!("-{id}")
        } else {
            format!("-{:016x}", xxh3_64(id.as_bytes()))
        };
        Self {
            name: format!("{PREFIX}{namespace}{suffix}"),
            suffix,
        }
    }

    /// As requests name it.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The first of the installations with the same id that wrote the status of an object, if it precedes this one.
    pub(crate) fn rival(&self, entries: Option<&[ManagedFieldsEntry]>) -> Option<Rival> {
        let precedes = |name: &str| {
            let namespace = name
                .strip_prefix(PREFIX)
                .and_then(|rest| rest.strip_suffix(&self.suffix));
            name < self.name.as_str() && namespace.is_some_and(|namespace| !namespace.is_empty())
        };
        entries?
            .iter()
            .filter(|entry| entry.subresource.as_deref() == Some("status"))
            .filter_map(|entry| {
                Some(Rival {
                    name: entry.manager.clone().filter(|name| precedes(name))?,
                    wrote: entry.time.as_ref().map_or(0, |time| time.0.as_second()),
                })
            })
            .min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn manager(namespace: &str, id: &str) -> Manager {
        Manager::new(&Settings {
            ambassador_namespace: namespace.to_owned(),
            ambassador_id: id.to_owned(),
            ..Settings::default()
        })
    }

    fn rival(of: &Manager, name: &str, subresource: &str) -> Option<String> {
        let entry = ManagedFieldsEntry {
            manager: Some(name.to_owned()),
            subresource: Some(subresource.to_owned()),
            ..ManagedFieldsEntry::default()
        };
        of.rival(Some(&[entry])).map(|rival| rival.name)
    }

    #[test]
    fn only_an_installation_with_the_same_id_that_sorts_first_is_a_rival() {
        let own = manager("edge", "blue");
        assert_eq!(own.name(), "nuncio-edge-blue");
        let first = "nuncio-apps-blue";
        assert_eq!(rival(&own, first, "status").as_deref(), Some(first));
        for (name, subresource) in [
            ("nuncio-edge-blue", "status"),
            ("nuncio-zone-blue", "status"),
            ("nuncio-apps-green", "status"),
            ("kubectl", "status"),
            (first, ""),
        ] {
            assert_eq!(rival(&own, name, subresource), None, "{name}");
        }
    }

    #[test]
    fn a_name_is_accepted_by_the_apiserver() {
        for id in ["\u{e4}", "a b", &"x".repeat(300)] {
            let name = manager(&"n".repeat(63), id).name().to_owned();
            assert!(name.len() <= LONGEST && name.is_ascii(), "{name}");
            assert!(!name.contains(' '), "{name}");
        }
    }
}
