//! A DevPortal: accepted, without effect.

use nuncio_crds::v3alpha1::DevPortalSpec;
use serde_json::Value;

use super::{Found, parse, without_effect};
use crate::object::Kind;

pub(super) fn reconcile(value: Value) -> Found {
    match parse::spec::<DevPortalSpec>(value, Kind::DevPortal, false) {
        Ok((_, mut problems)) => {
            problems.push(without_effect("", "a DevPortal has no effect"));
            (None, problems)
        }
        Err(problem) => (None, vec![problem]),
    }
}
