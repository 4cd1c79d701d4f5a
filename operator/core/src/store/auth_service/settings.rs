//! From AuthServices to the settings of a filter. Pure.

use std::{collections::BTreeMap, sync::Arc};

use nuncio_ir::{
    AuthorizationCall, AuthorizationService, FilterSettings, HttpAuthorization, Origin,
};

use crate::{
    defaults::Defaults,
    object::ObjectRef,
    reconcile::{AuthCall, AuthRequests, AuthService, Origination, Upstream},
    report::{Problem, Reason},
    store::group::combine::{LINKERD, linkerd_address},
};

/// A default AuthService with its cluster.
pub(super) type Service = (ObjectRef, Arc<AuthService>, Arc<str>);

type Problems = BTreeMap<ObjectRef, Vec<Problem>>;

/// The AuthServices that can be one filter: the first, and those that are called as it is.
pub(super) fn members<'a>(services: &'a [Service], problems: &mut Problems) -> Vec<&'a Service> {
    let Some((first, leader, _)) = services.first() else {
        return Vec::new();
    };
    let is_grpc = |service: &AuthService| matches!(service.call, AuthCall::Grpc);
    let fits = |(object, service, _): &&Service| {
        let field = if is_grpc(service) != is_grpc(leader) {
            "proto"
        } else if service.upstream.tls != leader.upstream.tls {
            "tls"
        } else {
            return true;
        };
        let message = format!(
            "{first} comes first by name and has another {field}; this AuthService is not used"
        );
        report(problems, object, &format!("spec.{field}"), message);
        false
    };
    services.iter().filter(fits).collect()
}

fn report(problems: &mut Problems, object: &ObjectRef, path: &str, message: String) {
    let problem = Problem::ignored(Reason::AUTH_SERVICE_CONFLICT, path, message);
    problems.entry(object.clone()).or_default().push(problem);
}

/// The settings of one AuthService, or of several that are combined.
pub(super) fn alone(
    origins: Vec<Origin>,
    service: &AuthService,
    cluster: &Arc<str>,
    defaults: &Defaults,
) -> FilterSettings {
    FilterSettings::Authorization(Box::new(AuthorizationService {
        cluster: cluster.clone(),
        call: match &service.call {
            AuthCall::Grpc => AuthorizationCall::Grpc,
            AuthCall::Http(requests) => {
                let adds_linkerd = requests.add_linkerd_headers;
                let adds_linkerd = adds_linkerd.unwrap_or(defaults.add_linkerd_headers);
                AuthorizationCall::Http(http(requests, &service.upstream, adds_linkerd))
            }
        },
        timeout: service.timeout,
        body: service.body,
        allow_on_failure: service.allow_on_failure,
        status_on_error: service.status_on_error,
        origins,
    }))
}

fn http(requests: &AuthRequests, upstream: &Upstream, adds_linkerd: bool) -> HttpAuthorization {
    let mut added_headers = requests.added_headers.clone();
    if adds_linkerd {
        added_headers
            .entry(LINKERD.to_owned())
            .or_insert_with(|| linkerd(requests, upstream));
    }
    HttpAuthorization {
        tls: upstream.tls != Origination::None,
        path_prefix: requests.path_prefix.clone(),
        request_headers: requests.request_headers.iter().cloned().collect(),
        response_headers: requests.response_headers.iter().cloned().collect(),
        added_headers,
    }
}

/// The address for Linkerd. As in Emissary, the first part of `path_prefix` is taken for it if there is one.
fn linkerd(requests: &AuthRequests, upstream: &Upstream) -> String {
    let prefix = requests.path_prefix.trim_start_matches('/');
    let host = prefix.split(['/', '?', '#']).next().unwrap_or_default();
    if host.is_empty() {
        return linkerd_address(upstream);
    }
    // a percent sign begins an operator of Envoy
    let host = host.to_ascii_lowercase().replace('%', "%%");
    let port = match upstream.tls {
        Origination::None => 80,
        Origination::Plain | Origination::Context(_) => 443,
    };
    if host.contains(':') {
        host
    } else {
        format!("{host}:{port}")
    }
}

/// The settings of all default AuthServices: lists are united, flags hold if any sets them, all else is the first's.
pub(super) fn combined(
    members: &[&Service],
    cluster: &Arc<str>,
    defaults: &Defaults,
    problems: &mut Problems,
) -> FilterSettings {
    let Some((first, leader, _)) = members.first() else {
        return FilterSettings::Off;
    };
    let mut service = AuthService::clone(leader);
    for (object, other, _) in members.iter().skip(1) {
        for path in differences(leader, other) {
            let message = format!(
                "{} applies to all default AuthServices; using that of {first}, the first by name",
                path.trim_start_matches("spec.")
            );
            report(problems, object, path, message);
        }
        service.allow_on_failure |= other.allow_on_failure;
        if service.status_on_error.is_none() {
            service.status_on_error = other.status_on_error;
        } else if other.status_on_error.is_some()
            && service.status_on_error != other.status_on_error
        {
            let message = "status_on_error applies to all default AuthServices; using that of another one that comes first by name";
            report(problems, object, "spec.status_on_error", message.to_owned());
        }
        if let (AuthCall::Http(requests), AuthCall::Http(more)) = (&mut service.call, &other.call) {
            requests
                .request_headers
                .extend(more.request_headers.iter().cloned());
            requests
                .response_headers
                .extend(more.response_headers.iter().cloned());
            if more.add_linkerd_headers == Some(true) {
                requests.add_linkerd_headers = Some(true);
            }
        }
    }
    let origins = members.iter().map(|(object, ..)| object.origin());
    alone(origins.collect(), &service, cluster, defaults)
}

/// The fields of which the first AuthService's are used, and that another one sets differently.
fn differences(first: &AuthService, other: &AuthService) -> Vec<&'static str> {
    let mut fields = vec![
        ("spec.timeout_ms", first.timeout != other.timeout),
        (
            "spec.include_body",
            first.body != other.body && other.body.is_some(),
        ),
        (
            "spec.circuit_breakers",
            first.upstream.settings.circuit_breakers != other.upstream.settings.circuit_breakers
                && other.upstream.settings.circuit_breakers.is_some(),
        ),
        (
            "spec.stats_name",
            first.upstream.settings.stat_name != other.upstream.settings.stat_name
                && other.upstream.settings.stat_name.is_some(),
        ),
    ];
    if let (AuthCall::Http(first), AuthCall::Http(other)) = (&first.call, &other.call) {
        fields.push((
            "spec.path_prefix",
            first.path_prefix != other.path_prefix && !other.path_prefix.is_empty(),
        ));
        fields.push((
            "spec.add_auth_headers",
            first.added_headers != other.added_headers && !other.added_headers.is_empty(),
        ));
    }
    let differ = fields.into_iter().filter(|(_, differs)| *differs);
    differ.map(|(path, _)| path).collect()
}
