//! What the sources (the apiserver, files) tell the Store: the only way into it.

use crate::{
    object::{Kind, ObjectRef},
    reconcile::Fragment,
    report::Problem,
};

/// One object after its reconciler: what it adds to the gateway, and what is wrong with it by itself.
#[derive(Clone, Debug, PartialEq)]
pub struct Reconciled {
    /// Which object.
    pub object: ObjectRef,
    /// `metadata.generation`; 0 where there is none.
    pub generation: i64,
    /// What the object adds; `None` when nothing of it can be served.
    pub fragment: Option<Fragment>,
    /// What is wrong with the object, seen alone.
    pub problems: Vec<Problem>,
}

/// A change of the input.
#[derive(Clone, Debug, PartialEq)]
pub enum Change {
    /// The object is new or may differ.
    Apply(Box<Reconciled>),
    /// The object is gone.
    Delete(ObjectRef),
    /// All objects of this kind there are: a first list, or a list after the watch was lost. What is not in it
    /// is gone. The Store takes it as one change, so that nobody sees half a list.
    Replace(Kind, Vec<Reconciled>),
    /// The object comes from elsewhere and wins over what the sources of its kind say of it.
    Pin(Box<Reconciled>),
    /// It comes from elsewhere no more. Until its kind is listed again there is none of this name.
    Unpin(ObjectRef),
}
