//! Regular expressions of Mappings that are larger than the Module allows. Such a Mapping is invalid, and what it matches is
//! known.

use std::{collections::BTreeMap, mem, sync::Arc};

use super::Store;
use crate::{
    object::{Kind, ObjectRef},
    reconcile::{
        Forwarding, LargestRegex, Mapping, Rare, Role, outcome,
        regex::{DEFAULT_PROGRAM_SIZE, invalid, too_large},
    },
    report::{Problem, Reason},
};

/// The limit, and what it applies to.
#[derive(Debug)]
pub(super) struct Regexes {
    limit: usize,
    /// Mappings with regular expressions, as they are without a limit.
    mappings: BTreeMap<ObjectRef, Arc<Mapping>>,
}

impl Default for Regexes {
    fn default() -> Self {
        Self {
            limit: DEFAULT_PROGRAM_SIZE,
            mappings: BTreeMap::new(),
        }
    }
}

impl Store {
    /// Sets a Mapping, with the limit of its regular expressions.
    pub(super) fn set_limited_mapping(
        &mut self,
        object: &ObjectRef,
        mapping: Option<Arc<Mapping>>,
    ) {
        let mappings = &mut self.regexes.mappings;
        match &mapping {
            Some(mapping) if mapping.regex.is_some() => {
                mappings.insert(object.clone(), mapping.clone());
            }
            _ => drop(mappings.remove(object)),
        }
        let limit = self.regexes.limit;
        let mapping = mapping.and_then(|mapping| limited(mapping, limit));
        self.set_mapping(object, mapping);
    }

    /// Changes the limit.
    pub(super) fn limit_regexes(&mut self, limit: usize) {
        let old = mem::replace(&mut self.regexes.limit, limit);
        if old == limit {
            return;
        }
        let mappings = self.regexes.mappings.iter();
        let affected = mappings.filter(|(_, mapping)| is_over(mapping, old.min(limit)));
        let affected: Vec<_> = affected
            .map(|(object, mapping)| (object.clone(), mapping.clone()))
            .collect();
        for (object, mapping) in affected {
            self.set_mapping(&object, limited(mapping, limit));
        }
    }

    /// Why a Mapping is invalid although its reconciler accepts it.
    pub(super) fn regex_problem(&self, object: &ObjectRef) -> Option<Problem> {
        let limit = self.regexes.limit;
        let regex = self.regexes.mappings.get(object)?.regex.as_ref()?;
        let LargestRegex {
            path,
            pattern,
            size,
        } = regex;
        if *size <= limit {
            return None;
        }
        let fact = invalid(pattern, &too_large(*size, limit));
        let message = format!("{fact}; {}", outcome(Kind::Mapping));
        Some(Problem::invalid(Reason::INVALID_REGEX, path, message))
    }
}

fn is_over(mapping: &Mapping, limit: usize) -> bool {
    let regex = mapping.regex.as_ref();
    regex.is_some_and(|regex| regex.size > limit)
}

/// What is left of a Mapping. One that copies requests, and is invalid, matches nothing.
fn limited(mapping: Arc<Mapping>, limit: usize) -> Option<Arc<Mapping>> {
    if !is_over(&mapping, limit) {
        return Some(mapping);
    }
    if mapping.role == Role::Shadow {
        return None;
    }
    let invalid = Mapping {
        role: Role::Invalid,
        forwarding: Forwarding::default(),
        upstream: None,
        shared: Rare::default(),
        knative: Rare::default(),
        ..Mapping::clone(&mapping)
    };
    Some(invalid.into())
}
