//! Settings that most objects do not have.

use std::{ops::Deref, sync::LazyLock};

use super::{ClusterSettings, KnativeTerms, Shared};

/// A value that is nearly always the default, which then takes the memory of a pointer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rare<T>(Option<Box<T>>);

impl<T> Default for Rare<T> {
    fn default() -> Self {
        Self(None)
    }
}

impl<T: Default + PartialEq> From<T> for Rare<T> {
    fn from(value: T) -> Self {
        Self((value != T::default()).then(|| Box::new(value)))
    }
}

impl<T: Shareable> Deref for Rare<T> {
    type Target = T;

    fn deref(&self) -> &T {
        match &self.0 {
            Some(value) => value,
            None => T::shared_default(),
        }
    }
}

/// A type with one default for all.
pub trait Shareable: Sized + 'static {
    /// The default.
    fn shared_default() -> &'static Self;
}

macro_rules! shareable {
    ($($of:ty),*) => {
        $(impl Shareable for $of {
            fn shared_default() -> &'static Self {
                static DEFAULT: LazyLock<$of> = LazyLock::new(<$of>::default);
                &DEFAULT
            }
        })*
    };
}

shareable!(Shared, ClusterSettings, KnativeTerms);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_default_is_not_kept() {
        let none = Rare::from(Shared::default());
        assert_eq!(none.0, None);
        assert_eq!(*none, Shared::default());
        let some = Shared {
            high_priority: Some(true),
            ..Shared::default()
        };
        assert_eq!(*Rare::from(some.clone()), some);
    }
}
