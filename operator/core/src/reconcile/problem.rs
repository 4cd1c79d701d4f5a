//! Problems of reconcilers: the fact, then one of a few fixed outcomes.

use std::fmt::Display;

use super::Name;
use crate::{
    object::{Kind, ObjectRef},
    report::{Problem, Reason},
};

/// The object is not served: what is wrong at a field.
pub(super) fn not_served(kind: Kind, path: impl Into<String>, fact: impl Display) -> Problem {
    let message = format!("{fact}; {}", outcome(kind));
    Problem::invalid(Reason::INVALID, path, message)
}

/// What happens to an invalid object.
pub(crate) fn outcome(kind: Kind) -> String {
    match kind {
        Kind::Listener | Kind::Host | Kind::Mapping | Kind::TcpMapping => {
            format!("this {kind} is not served")
        }
        Kind::TlsContext
        | Kind::KubernetesServiceResolver
        | Kind::KubernetesEndpointResolver
        | Kind::ConsulResolver => {
            format!("this {kind} is not used")
        }
        Kind::Module
        | Kind::AuthService
        | Kind::RateLimitService
        | Kind::LogService
        | Kind::TracingService
        | Kind::DevPortal => format!("this {kind} is not used"),
        Kind::Ingress | Kind::KnativeIngress => format!("this {kind} is not served"),
        Kind::Service
        | Kind::EndpointSlice
        | Kind::Secret
        | Kind::Namespace
        | Kind::IngressClass
        | Kind::Document => "ignored".to_owned(),
    }
}

/// A part of the object is ignored: what is wrong at a field.
pub(super) fn ignored(path: impl Into<String>, fact: impl Display) -> Problem {
    Problem::ignored(Reason::PARTIALLY_INVALID, path, format!("{fact}; ignored"))
}

/// A value is replaced: what is wrong at a field, and what is used instead.
pub(super) fn replaced(
    path: impl Into<String>,
    fact: impl Display,
    instead: impl Display,
) -> Problem {
    let message = format!("{fact}; using {instead}");
    Problem::ignored(Reason::PARTIALLY_INVALID, path, message)
}

/// A field that another field overrides.
pub(super) fn overridden(field: &str, by: &str) -> Problem {
    let message = format!("{field} is ignored because {by} is set");
    Problem::ignored(Reason::IGNORED, format!("spec.{field}"), message)
}

/// A field that is accepted for compatibility.
pub(super) fn without_effect(path: impl Into<String>, message: impl Into<String>) -> Problem {
    Problem::notice(Reason::WITHOUT_EFFECT, path, message)
}

/// A notice for each of these Secrets that is in another namespace than the object that uses it.
pub(super) fn of_other_namespaces<'a>(
    object: &'a ObjectRef,
    secrets: impl IntoIterator<Item = (&'a str, Option<&'a Name>)>,
) -> impl Iterator<Item = Problem> {
    let secrets = secrets.into_iter();
    let secrets = secrets.filter_map(|(path, secret)| Some((path, secret?)));
    secrets
        .filter(|(_, secret)| secret.namespace != object.namespace)
        .map(|(path, secret)| {
            let message = format!("uses Secret {secret} of another namespace");
            Problem::notice(Reason::CROSS_NAMESPACE, path, message)
        })
}
