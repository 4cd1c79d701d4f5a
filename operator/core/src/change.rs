//! Changes of the input: the only way into the Store. Sources (the apiserver, files) send them.

use std::sync::Arc;

use crate::{
    object::{Kind, ObjectRef},
    reconcile::Fragment,
    report::Problem,
};

/// Where an object comes from, highest precedence first: if several sources have the same object, the first is served
/// and removing it restores the next.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Source {
    /// The directory of Istio's agent.
    Istio,
    /// The apiserver, or the files of `nuncio serve`.
    Api,
}

impl Source {
    /// As messages name it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Istio => "Istio's certificate directory",
            Self::Api => "the Kubernetes API",
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
}

impl std::fmt::Display for Origin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.owner {
            Some(owner) => write!(f, "{owner}"),
            None => f.write_str(self.source.name()),
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
    /// What the object adds; `None` if nothing of it can be served.
    pub fragment: Option<Fragment>,
    /// Problems of the object, seen alone.
    pub problems: Vec<Problem>,
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
    ReplaceOwned(Source, Arc<ObjectRef>, Vec<Reconciled>),
}
