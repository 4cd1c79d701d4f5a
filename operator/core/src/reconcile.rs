//! One object becomes a fragment and its problems: one reconciler per kind, pure, with no other input than the object.
//! A mistake in an object is a problem with its field path, never an error: no object can stop another.

use nuncio_crds::kind::Scope;
use serde_json::Value;

use crate::{
    change::Reconciled,
    object::{Kind, ObjectRef},
    report::{Problem, Reason, Severity},
    settings::{Fleets, Settings},
};

mod auth_service;
mod dev_portal;
mod duration;
mod edge;
mod endpoint_slice;
mod format;
mod fragment;
mod host;
mod ingress;
mod knative;
mod listener;
mod log_service;
pub mod lua;
mod mapping;
pub mod module;
mod older;
mod parse;
mod problem;
mod rate_limit_service;
pub mod regex;
mod resolver;
mod secret;
mod service;
mod tcp_mapping;
pub(crate) mod tls_context;
mod tls_settings;
mod tracing_service;
mod upstream;
mod version;

pub use fragment::{
    AddedHeaders, AuthCall, AuthRequests, AuthService, Backend, Certificate, ClusterSettings,
    ConsulResolver, EndpointSlice, Forwarding, Fragment, Host, HostMatch, HostTerms, HostTls,
    Ingress, IngressClass, IngressPath, IngressRule, IngressTls, InsecureAction, KnativeIngress,
    KnativePath, KnativeRule, KnativeSplit, KnativeTerms, KnativeTls, LabelGroup, LargestRegex,
    Listener, LogService, Mapping, Module, Name, Namespaces, Origination, Part, PathKind, Port,
    Probe, Rare, RateLimitService, Resolver, ResolverKind, Role, Sampling, Secret, SecurityModel,
    Service, Shared, TcpMapping, TlsContext, TlsSettings, Token, TracingService, Unusable,
    Upstream, header_changes, served,
};

pub(crate) use fragment::VISIBILITY;
pub use older::Older;
use version::Conversion;

pub(crate) use problem::outcome;
use problem::{ignored, not_served, of_other_namespaces, overridden, replaced, without_effect};

/// The fragment of an object, and its problems.
type Found = (Option<Fragment>, Vec<Problem>);

/// Reconciles one object of this kind, whatever its content.
#[must_use]
pub fn reconcile(kind: Kind, mut value: Value, settings: &Settings) -> Reconciled {
    let conversion = Conversion::of(kind, &mut value);
    let metadata = parse::Metadata::of(&value);
    let is_ours = is_ours(kind, &metadata, &settings.ambassador_id);
    let found = reconcile_whole(kind, value, &conversion, &metadata, settings);
    if is_ours {
        found
    } else {
        Reconciled {
            fragment: None,
            problems: Vec::new(),
            older: Vec::new(),
            ..found
        }
    }
}

/// Reconciles one object for several fleets: once, whatever their number, because what it adds does not depend on the ID.
/// `None` for a fleet that it is not for.
#[must_use]
pub fn reconcile_each(kind: Kind, mut value: Value, fleets: &Fleets) -> Vec<Option<Reconciled>> {
    let conversion = Conversion::of(kind, &mut value);
    let metadata = parse::Metadata::of(&value);
    let is_for: Vec<bool> = fleets
        .ids()
        .map(|id| is_ours(kind, &metadata, id))
        .collect();
    if !is_for.contains(&true) {
        return is_for.iter().map(|_| None).collect();
    }
    let found = reconcile_whole(kind, value, &conversion, &metadata, fleets.common());
    is_for
        .into_iter()
        .map(|is_for| is_for.then(|| found.clone()))
        .collect()
}

/// Whether an object is for the fleet with this `ambassador_id`; those of Kubernetes are for all, but for Ingresses and their
/// classes, which an annotation assigns.
fn is_ours(kind: Kind, metadata: &parse::Metadata, ambassador_id: &str) -> bool {
    match kind {
        Kind::Ingress | Kind::IngressClass | Kind::KnativeIngress => {
            metadata.is_annotated_for(ambassador_id)
        }
        _ => kind.group() != nuncio_crds::GROUP || metadata.is_for(ambassador_id),
    }
}

/// Reconciles an object, whatever it is for.
fn reconcile_whole(
    kind: Kind,
    value: Value,
    conversion: &Conversion,
    metadata: &parse::Metadata,
    settings: &Settings,
) -> Reconciled {
    let object = ObjectRef {
        kind,
        name: metadata.name.as_str().into(),
        namespace: match kind.info().scope {
            Scope::Namespaced => metadata
                .namespace
                .as_deref()
                .unwrap_or(&settings.ambassador_namespace)
                .into(),
            Scope::Cluster | Scope::File => "".into(),
        },
    };
    let old = older::may_use_new(&value, kind == Kind::Module).then(|| value.clone());
    let found = find(kind, value, conversion, &object, metadata, settings);
    let older = old.map_or_else(Vec::new, |value| {
        older::each(&found, |oldest_envoy| {
            let settings = Settings {
                oldest_envoy,
                ..settings.clone()
            };
            find(
                kind,
                value.clone(),
                conversion,
                &object,
                metadata,
                &settings,
            )
        })
    });
    let (fragment, problems) = found;
    Reconciled {
        object,
        generation: metadata.generation,
        version: metadata.version.clone(),
        fragment,
        problems,
        older,
    }
}

/// What an object adds, and its problems.
fn find(
    kind: Kind,
    value: Value,
    conversion: &Conversion,
    object: &ObjectRef,
    metadata: &parse::Metadata,
    settings: &Settings,
) -> Found {
    let read = || match kind {
        Kind::KubernetesServiceResolver => resolver::kubernetes(value, kind, ResolverKind::Service),
        Kind::KubernetesEndpointResolver => {
            resolver::kubernetes(value, kind, ResolverKind::Endpoints)
        }
        Kind::ConsulResolver => resolver::consul(value, object),
        Kind::TlsContext => tls_context::reconcile(value, object, settings),
        Kind::TcpMapping => tcp_mapping::reconcile(value, object, settings),
        Kind::Module => module::reconcile(value, object, settings),
        Kind::AuthService => auth_service::reconcile(value, object, settings),
        Kind::RateLimitService => rate_limit_service::reconcile(value, object, settings),
        Kind::LogService => log_service::reconcile(value, object, settings),
        Kind::TracingService => tracing_service::reconcile(value, object, settings),
        Kind::DevPortal => dev_portal::reconcile(value),
        Kind::Listener => listener::reconcile(value),
        Kind::Host => host::reconcile(value, object, &metadata.labels, settings),
        Kind::Mapping => mapping::reconcile(value, object, &metadata.labels, settings),
        Kind::Service => service::reconcile(value),
        Kind::EndpointSlice => endpoint_slice::reconcile(value, object, &metadata.labels),
        Kind::Secret => secret::reconcile(value),
        Kind::Namespace => (
            Some(Fragment::Namespace(metadata.labels.clone().into())),
            Vec::new(),
        ),
        Kind::Ingress => ingress::reconcile(value, metadata),
        Kind::IngressClass => ingress::class(value),
        Kind::KnativeIngress => knative::reconcile(&value, metadata),
        Kind::Document => (None, Vec::new()),
    };
    let (fragment, problems) = conversion.reported(kind, read);
    let is_invalid = problems
        .iter()
        .any(|problem| problem.severity == Severity::Error);
    let fragment = fragment.filter(|fragment| !is_invalid || is_kept(fragment));
    (fragment, problems)
}

/// Whether an object is for the instance with this `ambassador_id`.
#[must_use]
pub fn is_for(object: &Value, ambassador_id: &str) -> bool {
    parse::Metadata::of(object).is_for(ambassador_id)
}

/// Whether an invalid object adds something all the same: a Mapping keeps the requests that it matches from others, an
/// AuthService those that it would authorize from being served without it, a resolver its name, and an invalid Secret is
/// not a missing one.
fn is_kept(fragment: &Fragment) -> bool {
    match fragment {
        Fragment::Mapping(mapping) => mapping.role == Role::Invalid,
        Fragment::Secret(_) | Fragment::UnusableAuthService(_) | Fragment::Resolver(_) => true,
        _ => false,
    }
}

/// The kind of an object from a file.
///
/// # Errors
/// A problem if the document is not an object of a kind and version that is known.
pub fn identify(value: &Value) -> Result<Kind, Problem> {
    let Some(object) = value.as_object() else {
        return Err(Problem::invalid(
            Reason::NOT_AN_OBJECT,
            "",
            "not a Kubernetes object: must be a map with apiVersion, kind and metadata; ignored",
        ));
    };
    let text = |field: &'static str| {
        object
            .get(field)
            .and_then(Value::as_str)
            .filter(|text| !text.is_empty())
            .ok_or_else(|| {
                Problem::invalid(
                    Reason::NOT_AN_OBJECT,
                    field,
                    format!("not a Kubernetes object: {field} is missing; ignored"),
                )
            })
    };
    let (api_version, kind) = (text("apiVersion")?, text("kind")?);
    let group = api_version.split_once('/').map_or("", |(group, _)| group);
    let Some(found) = Kind::WATCHED
        .into_iter()
        .find(|found| found.name() == kind && found.group() == group)
    else {
        return Err(Problem::invalid(
            Reason::UNKNOWN_KIND,
            "kind",
            format!("kind {kind} of {api_version} does not configure this gateway; ignored"),
        ));
    };
    let version = api_version.rsplit('/').next().unwrap_or(api_version);
    let versions = found.info().versions;
    if !versions.iter().any(|known| known.name == version) {
        return Err(Problem::invalid(
            Reason::UNKNOWN_VERSION,
            "apiVersion",
            format!(
                "unsupported version {version:?} of {kind}: use {}; ignored",
                found.version()
            ),
        ));
    }
    if parse::Metadata::of(value).name.is_empty() {
        return Err(Problem::invalid(
            Reason::NOT_AN_OBJECT,
            "metadata.name",
            "metadata.name is missing; ignored",
        ));
    }
    Ok(found)
}

/// Whether this can be the name of a header (RFC 9110, 5.1).
fn is_header_name(text: &str) -> bool {
    let token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    !text.is_empty() && text.bytes().all(token)
}
