//! Field managers of statuses: each installation of Nuncio has a name of its own, so that two that serve the same objects
//! notice each other and do not overwrite each other without end.
//!
//! The name is `nuncio-NAMESPACE-ID`, with all IDs of an installation that has several, separated by commas. Of two
//! installations with one id, that whose name sorts first writes; see [`super::queue`] for what the other one does.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ManagedFieldsEntry;
use nuncio_core::settings::Fleets;
use xxhash_rust::xxh3::xxh3_64;

const PREFIX: &str = "nuncio-";

/// Longest name that the apiserver accepts.
const LONGEST: usize = 128;

/// The field manager of this installation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Manager {
    name: String,
    /// What names of installations in the same namespace begin with.
    own: String,
    /// IDs as names have them.
    ids: Vec<String>,
}

/// Another installation that writes the status of an object, and precedes this one.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Rival {
    pub(crate) name: String,
    /// When it last wrote, in seconds since the Unix epoch by the apiserver's clock.
    pub(crate) wrote: i64,
}

impl Manager {
    /// That of the installation with these fleets.
    #[must_use]
    pub fn new(fleets: &Fleets) -> Self {
        let namespace = &fleets.common().ambassador_namespace;
        let all = fleets.name();
        let is_plain = all.bytes().all(|byte| byte.is_ascii_graphic());
        let own = format!("{PREFIX}{namespace}-");
        let is_short = own.len() + all.len() <= LONGEST;
        let ids = if is_plain && is_short {
            fleets.ids().map(str::to_owned).collect()
        } else {
            vec![format!("{:016x}", xxh3_64(all.as_bytes()))]
        };
        Self {
            name: format!("{own}{}", ids.join(",")),
            own,
            ids,
        }
    }

    /// As requests name it.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The first of the installations with the same id that wrote the status of an object, if it precedes this one.
    pub(crate) fn rival(&self, entries: Option<&[ManagedFieldsEntry]>) -> Option<Rival> {
        let precedes = |name: &str| name < self.name.as_str() && self.shares_id(name);
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

    /// Whether a name is that of another installation which has one of the IDs. One in the same namespace that has no other
    /// ID is this installation, before it got more.
    fn shares_id(&self, name: &str) -> bool {
        let is_known = |id: &str| self.ids.iter().any(|own| own == id);
        let earlier = name.strip_prefix(&self.own);
        if earlier.is_some_and(|ids| ids.split(',').all(is_known)) {
            return false;
        }
        let Some(rest) = name.strip_prefix(PREFIX) else {
            return false;
        };
        let mut rest = rest.split(',');
        // the namespace and the first ID can both have hyphens
        let first = rest.next().unwrap_or_default();
        let is_first = self.ids.iter().any(|id| {
            let namespace = first.strip_suffix(id.as_str());
            let namespace = namespace.and_then(|namespace| namespace.strip_suffix('-'));
            namespace.is_some_and(|namespace| !namespace.is_empty())
        });
        is_first || rest.any(is_known)
    }
}

#[cfg(test)]
mod tests {
    use nuncio_core::settings::Settings;

    use super::*;

    fn manager(namespace: &str, id: &str) -> Manager {
        let settings = Settings {
            ambassador_namespace: namespace.to_owned(),
            ambassador_id: id.to_owned(),
            ..Settings::default()
        };
        Manager::new(&Fleets::split(settings).unwrap())
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
    fn an_installation_with_several_ids_is_a_rival_of_those_with_one_of_them() {
        let own = manager("edge", "green,blue");
        assert_eq!(own.name(), "nuncio-edge-blue,green");
        for name in [
            "nuncio-apps-blue",
            "nuncio-apps-green",
            "nuncio-apps-a,green",
            "nuncio-apps-x-blue,z",
        ] {
            assert_eq!(rival(&own, name, "status").as_deref(), Some(name));
        }
        for name in [
            "nuncio-edge-blue",
            "nuncio-edge-blue,green",
            "nuncio-apps-red",
            "nuncio-apps-greenish,yellow",
            "nuncio-zone-blue",
        ] {
            assert_eq!(rival(&own, name, "status"), None, "{name}");
        }
        let one = manager("edge", "blue");
        let several = "nuncio-apps-a,blue";
        assert_eq!(rival(&one, several, "status").as_deref(), Some(several));
        assert_eq!(rival(&one, "nuncio-apps-a,blues", "status"), None);
    }

    #[test]
    fn a_name_is_accepted_by_the_apiserver() {
        for id in [
            "\u{e4}",
            "a b",
            &"x".repeat(300),
            &format!("a,{}", "x".repeat(300)),
        ] {
            let name = manager(&"n".repeat(63), id).name().to_owned();
            assert!(name.len() <= LONGEST && name.is_ascii(), "{name}");
            assert!(!name.contains(' '), "{name}");
        }
    }
}
