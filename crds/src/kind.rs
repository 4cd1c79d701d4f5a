//! The table of kinds: one row for each, with everything that the rest of the workspace has to know about a kind before
//! it sees an object of it.
//!
//! A new kind is a new row in `kind/table.rs`. Definitions, watches, files, status, permissions and the tests of all of these
//! read the table; only what a kind means is elsewhere (its reconciler, its level of the Store, its rendering).

use std::fmt;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceDefinition, CustomResourceDefinitionVersion,
};
use kube::CustomResourceExt;
use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;

use crate::{conversion::ApiVersion, definition};

mod table;

pub use table::{KINDS, Kind};

/// What is known about a kind.
#[derive(Clone, Copy, Debug)]
pub struct KindInfo {
    /// The kind.
    pub kind: Kind,
    /// Name, as `kind:` spells it.
    pub name: &'static str,
    /// API group; empty for the core group.
    pub group: &'static str,
    /// Versions that objects can have, oldest first; we read and write exactly one of them, except for [`Scope::File`], which
    /// has none.
    pub versions: &'static [Version],
    /// Resource name in API paths.
    pub plural: &'static str,
    /// Where its objects live.
    pub scope: Scope,
    /// What its status holds.
    pub status: Status,
    /// Whether the gateway starts without it: a cluster where the kind is not installed has no objects of it.
    pub optional: bool,
    /// The schema, for kinds that we define ourselves.
    pub schema: Option<Schema>,
}

/// A version of a kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Version {
    /// Name, such as `v3alpha1`.
    pub name: &'static str,
    /// Whether it is the one that we read and write; objects of the others are converted to it.
    pub is_ours: bool,
}

/// Where objects of a kind live.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// In a namespace.
    Namespaced,
    /// In the cluster, without a namespace.
    Cluster,
    /// In a file only; no cluster has such a kind.
    File,
}

/// What the status of a kind holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// Nothing: no status is written.
    None,
    /// Conditions.
    Conditions,
    /// Conditions, and the fields of Emissary's Mapping.
    Mapping,
    /// Conditions, and the fields of Emissary's Host.
    Host,
    /// The conditions and fields of Knative's Ingress, of which Knative has the schema.
    Knative,
}

impl Status {
    /// Fields beside the conditions.
    #[must_use]
    pub const fn fields(self) -> &'static [&'static str] {
        match self {
            Self::None | Self::Conditions => &[],
            Self::Mapping => &["state", "reason"],
            Self::Host => &[
                "state",
                "errorReason",
                "errorTimestamp",
                "tlsCertificateSource",
            ],
            Self::Knative => &[
                "observedGeneration",
                "loadBalancer",
                "privateLoadBalancer",
                "publicLoadBalancer",
            ],
        }
    }

    /// Whether it is a status of our own definitions.
    #[must_use]
    pub const fn is_ours(self) -> bool {
        !matches!(self, Self::None | Self::Knative)
    }
}

/// The schema of a kind that we define ourselves.
#[derive(Clone, Copy, Debug)]
pub struct Schema {
    derived: fn() -> CustomResourceDefinition,
    round_trip: fn(Value) -> serde_json::Result<Value>,
}

impl Schema {
    const fn of<K: CustomResourceExt + DeserializeOwned + Serialize>() -> Option<Self> {
        Some(Self {
            derived: K::crd,
            round_trip: |object| serde_json::to_value(serde_json::from_value::<K>(object)?),
        })
    }

    /// Reads an object into the type of its kind and writes it again.
    ///
    /// # Errors
    /// The object does not have this type.
    pub fn round_trip(&self, object: Value) -> serde_json::Result<Value> {
        (self.round_trip)(object)
    }
}

impl KindInfo {
    /// The definition that clusters get, for kinds that we define ourselves, with the version that we read and write.
    #[must_use]
    pub fn definition(&self) -> Option<CustomResourceDefinition> {
        let schema = self.schema?;
        Some(definition::finished((schema.derived)(), self.status))
    }

    /// A version of the definition, served and not stored unless it is the one that we read and write.
    #[must_use]
    pub fn version(&self, version: ApiVersion) -> Option<CustomResourceDefinitionVersion> {
        let row = self
            .versions
            .iter()
            .find(|row| row.name == version.name())?;
        let ours = self.definition()?.spec.versions.pop()?;
        if row.is_ours {
            return Some(ours);
        }
        Some(definition::old(self.name, version, ours))
    }
}

impl Kind {
    /// Every kind.
    pub const ALL: [Self; KINDS.len()] = {
        let mut all = [KINDS[0].kind; KINDS.len()];
        let mut index = 0;
        while index < all.len() {
            all[index] = KINDS[index].kind;
            index += 1;
        }
        all
    };

    /// Every kind that is watched in a cluster: all but those of files.
    pub const WATCHED: [Self; WATCHED] = {
        let mut watched = [KINDS[0].kind; WATCHED];
        let (mut index, mut count) = (0, 0);
        while index < KINDS.len() {
            if !matches!(KINDS[index].scope, Scope::File) {
                watched[count] = KINDS[index].kind;
                count += 1;
            }
            index += 1;
        }
        watched
    };

    /// The row of this kind.
    #[must_use]
    pub const fn info(self) -> &'static KindInfo {
        &KINDS[self as usize]
    }

    /// Name, as `kind:` spells it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        self.info().name
    }

    /// Name in messages: two kinds of different groups can have the same name.
    #[must_use]
    pub const fn title(self) -> &'static str {
        match self {
            Self::KnativeIngress => "Knative Ingress",
            _ => self.name(),
        }
    }

    /// API group, empty for the core group.
    #[must_use]
    pub const fn group(self) -> &'static str {
        self.info().group
    }

    /// The API version that we read and write; empty for a kind of files.
    #[must_use]
    pub const fn version(self) -> &'static str {
        let versions = self.info().versions;
        let mut index = 0;
        while index < versions.len() {
            if versions[index].is_ours {
                return versions[index].name;
            }
            index += 1;
        }
        ""
    }

    /// Resource name in API paths.
    #[must_use]
    pub const fn plural(self) -> &'static str {
        self.info().plural
    }

    /// Whether a status is written for it.
    #[must_use]
    pub const fn has_status(self) -> bool {
        !matches!(self.info().status, Status::None)
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.title())
    }
}

/// How many kinds are watched.
const WATCHED: usize = {
    let (mut index, mut count) = (0, 0);
    while index < KINDS.len() {
        if !matches!(KINDS[index].scope, Scope::File) {
            count += 1;
        }
        index += 1;
    }
    count
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_finds_its_own_row() {
        for kind in Kind::ALL {
            assert_eq!(kind.info().kind, kind);
        }
    }

    #[test]
    fn names_differ_within_a_group() {
        for (index, info) in KINDS.iter().enumerate() {
            let same = |other: &&KindInfo| (other.group, other.name) == (info.group, info.name);
            assert_eq!(
                KINDS[..index].iter().find(same).map(|other| other.kind),
                None
            );
        }
    }

    #[test]
    fn one_version_of_each_watched_kind_is_ours() {
        for info in KINDS {
            let ours = info.versions.iter().filter(|version| version.is_ours);
            let expected = usize::from(Kind::WATCHED.contains(&info.kind));
            assert_eq!(ours.count(), expected, "{}", info.name);
        }
    }

    #[test]
    fn kinds_with_a_status_have_a_schema() {
        for info in KINDS {
            assert!(
                !info.status.is_ours() || info.schema.is_some(),
                "{}",
                info.name
            );
        }
    }
}
