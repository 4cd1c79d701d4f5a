//! Changes of the input: the only way into the Store. Sources (the apiserver, files) send them.

use std::{fmt, mem, sync::Arc, time::Instant};

use nuncio_ir::EnvoyVersion;

use crate::{
    consul::{ConsulService, ConsulState},
    object::{Kind, ObjectRef},
    reconcile::{Fragment, Older},
    report::Problem,
};

/// Where an object comes from, highest precedence first: if several sources have the same object, the first is served
/// and removing it restores the next.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Source {
    /// The directory of manifests that come before those of the cluster.
    InitConfig,
    /// The directory of Istio's agent.
    Istio,
    /// The apiserver, or the files of `nuncio serve`.
    Api,
    /// Annotations of Services and Ingresses.
    Annotation,
    /// What an Ingress stands for.
    Ingress,
}

impl Source {
    /// As messages name it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::InitConfig => "the init-config directory",
            Self::Istio => "Istio's certificate directory",
            Self::Api => "the Kubernetes API",
            Self::Annotation => "an annotation",
            Self::Ingress => "an Ingress",
        }
    }
}

/// A source, and the object in it that another object was generated from, if it was: one Service with annotations, or
/// one Ingress, yields several objects. Ordered by precedence.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Origin {
    /// The source.
    pub source: Source,
    /// The object that it was generated from; `None` if it is an object of the source itself.
    pub owner: Option<Arc<ObjectRef>>,
}

impl Origin {
    /// An object of the source itself.
    #[must_use]
    pub const fn of(source: Source) -> Self {
        Self {
            source,
            owner: None,
        }
    }

    /// What an object of the source yields.
    #[must_use]
    pub fn owned(source: Source, owner: impl Into<Arc<ObjectRef>>) -> Self {
        Self {
            source,
            owner: Some(owner.into()),
        }
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.owner {
            Some(owner) if self.source == Source::Annotation => {
                write!(f, "the annotation of {owner}")
            }
            Some(owner) => write!(f, "{owner}"),
            None => f.write_str(self.source.name()),
        }
    }
}

/// `metadata.resourceVersion`, as far as it is known. Nothing is allocated for a decimal number, which those of the apiserver are.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub enum ResourceVersion {
    /// There is none: a file, or an object that is gone.
    #[default]
    Unknown,
    /// A decimal number, written without leading zeros.
    Number(u64),
    /// Any other text.
    Text(Arc<str>),
}

impl ResourceVersion {
    /// The version that is written like this. The empty text is none.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        let is_canonical = text == "0" || !text.starts_with(['0', '+']);
        match text.parse() {
            Ok(number) if is_canonical => Self::Number(number),
            _ if text.is_empty() => Self::Unknown,
            _ => Self::Text(text.into()),
        }
    }

    /// Bytes that it has allocated.
    #[must_use]
    pub fn allocated(&self) -> usize {
        match self {
            Self::Unknown | Self::Number(_) => 0,
            Self::Text(text) => text.len(),
        }
    }
}

impl fmt::Display for ResourceVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unknown => Ok(()),
            Self::Number(number) => number.fmt(f),
            Self::Text(text) => f.write_str(text),
        }
    }
}

/// One object after its reconciler: what it adds to the gateway, and what is wrong with it by itself.
#[derive(Clone, Debug, PartialEq)]
pub struct Reconciled {
    /// Which object.
    pub object: ObjectRef,
    /// `metadata.generation`; 0 where there is none.
    pub generation: i64,
    /// `metadata.resourceVersion`
    pub version: ResourceVersion,
    /// What the object adds; `None` if nothing of it can be served.
    pub fragment: Option<Fragment>,
    /// Problems of the object, seen alone.
    pub problems: Vec<Problem>,
    /// What it is while an older Envoy is connected that does not have all that it uses, the oldest first; mostly nothing.
    pub older: Vec<Older>,
}

impl Reconciled {
    /// Adds problems that do not depend on the version of Envoy.
    pub fn add_problems(&mut self, problems: &[Problem]) {
        let older = self.older.iter_mut().map(|older| &mut older.problems);
        for found in older.chain([&mut self.problems]) {
            found.extend_from_slice(problems);
        }
    }

    /// What it is while this is the oldest version of a connected Envoy.
    #[must_use]
    pub fn into_version(mut self, oldest: EnvoyVersion) -> Self {
        let older = mem::take(&mut self.older);
        let used = older.into_iter().find(|older| oldest <= older.newest);
        if let Some(used) = used {
            self.fragment = used.fragment;
            self.problems = used.problems;
        }
        self
    }
}

/// The objects that another object yields.
#[derive(Clone, Debug, PartialEq)]
pub struct Owned {
    /// The other object.
    pub owner: Arc<ObjectRef>,
    /// What it yields; each object once.
    pub objects: Vec<Reconciled>,
    /// The number of the document that each of them is in, from 1, if they are documents.
    pub documents: Vec<u32>,
}

impl Owned {
    /// Nothing.
    #[must_use]
    pub fn nothing(owner: &ObjectRef) -> Self {
        Self {
            owner: owner.clone().into(),
            objects: Vec::new(),
            documents: Vec::new(),
        }
    }
}

/// A change of the input.
#[derive(Clone, Debug, PartialEq)]
pub enum Change {
    /// The object is new or may differ.
    Apply(Source, Box<Reconciled>),
    /// The source no longer has the object.
    Delete(Source, ObjectRef),
    /// A complete list of the source's objects of this kind: a first list, or one after the watch was lost. Objects that
    /// are not in it are gone. The Store takes it as one change, so that nobody sees half a list.
    Replace(Source, Kind, Vec<Reconciled>),
    /// All objects that an object of the source yields. Those that it yielded before and are not among them are gone.
    ReplaceOwned(Source, Owned),
    /// The oldest version of a connected Envoy.
    OldestEnvoy(EnvoyVersion),
    /// What is known of a wanted service of Consul; `None`: it is not wanted any more.
    Consul(ConsulService, Option<ConsulState>),
}

/// Changes that a source has sent together.
#[derive(Clone, Debug, PartialEq)]
pub struct Batch {
    /// When the source learned of them: of a watch, when it received the event.
    pub received: Instant,
    /// The resource version of a deletion, if the batch is one. That of another object is [`Reconciled::version`].
    pub deleted: ResourceVersion,
    /// The changes.
    pub changes: Vec<Change>,
}

impl Batch {
    /// Changes that were received at this time.
    #[must_use]
    pub const fn new(received: Instant, changes: Vec<Change>) -> Self {
        Self {
            received,
            deleted: ResourceVersion::Unknown,
            changes,
        }
    }
}

/// What a change was about.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Subject {
    /// An object.
    Object(ObjectRef),
    /// A service of Consul.
    Consul(ConsulService),
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Object(object) => object.fmt(f),
            Self::Consul(service) => write!(f, "Consul service {service}"),
        }
    }
}

/// Something that a [`Change`] has changed, so that what is served may differ. A list that is the same as before has none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Touched {
    /// What it is.
    pub subject: Subject,
    /// Its version now; unknown if it is gone.
    pub version: ResourceVersion,
    /// Whether its source no longer has it.
    pub is_gone: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_printed_as_they_were_written() {
        let max = u64::MAX.to_string();
        for text in [
            "0",
            "7",
            &max,
            "",
            "007",
            "+7",
            "00",
            "-1",
            "99999999999999999999",
            "a7",
        ] {
            assert_eq!(ResourceVersion::parse(text).to_string(), text);
        }
        assert_eq!(
            ResourceVersion::parse(&max),
            ResourceVersion::Number(u64::MAX)
        );
        assert_eq!(ResourceVersion::parse("7").allocated(), 0);
        assert_eq!(ResourceVersion::parse("007").allocated(), 3);
    }
}
