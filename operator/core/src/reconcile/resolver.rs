//! Resolvers: names for a way to find the addresses of upstreams. An invalid one is kept, so that what names it does not
//! get another resolver of that name.

use nuncio_crds::v3alpha1::{ConsulResolverSpec, KubernetesServiceResolverSpec};
use serde_json::Value;

use super::{ConsulResolver, Found, Fragment, Name, ResolverKind, not_served, parse};
use crate::{
    consul::address::{self, Address},
    object::{Kind, ObjectRef},
    report::{Problem, Reason},
};

/// Both kinds of Kubernetes resolvers have the same fields.
pub(super) fn kubernetes(value: Value, kind: Kind, resolver: ResolverKind) -> Found {
    match parse::spec::<KubernetesServiceResolverSpec>(value, kind, false) {
        Ok((_, problems)) => (Some(Fragment::Resolver(resolver)), problems),
        Err(problem) => invalid(vec![problem]),
    }
}

pub(super) fn consul(value: Value, object: &ObjectRef) -> Found {
    let (spec, mut problems): (ConsulResolverSpec, _) = match parse::spec(value, object.kind, false)
    {
        Ok(parsed) => parsed,
        Err(problem) => return invalid(vec![problem]),
    };
    match consul_resolver(&spec, object, &mut problems) {
        Ok(resolver) => {
            let resolver = ResolverKind::Consul(resolver.into());
            (Some(Fragment::Resolver(resolver)), problems)
        }
        Err(problem) => {
            problems.push(problem);
            invalid(problems)
        }
    }
}

fn invalid(problems: Vec<Problem>) -> Found {
    (Some(Fragment::Resolver(ResolverKind::Invalid)), problems)
}

fn consul_resolver(
    spec: &ConsulResolverSpec,
    object: &ObjectRef,
    problems: &mut Vec<Problem>,
) -> Result<ConsulResolver, Problem> {
    fn text(text: Option<&String>) -> Option<&str> {
        text.map(String::as_str).filter(|text| !text.is_empty())
    }
    let wrong = |field: &str, fact: &str| not_served(object.kind, format!("spec.{field}"), fact);
    let datacenter = text(spec.datacenter.as_ref())
        .ok_or_else(|| wrong("datacenter", "datacenter is missing"))?;
    let is_part = |byte: u8| byte.is_ascii_alphanumeric() || b"-_".contains(&byte);
    if datacenter.len() > 253 || !datacenter.bytes().all(is_part) {
        return Err(wrong(
            "datacenter",
            "must consist of letters, digits, - and _",
        ));
    }
    let server_name = text(spec.sni.as_ref());
    if server_name.is_some_and(|name| name.len() > 253 || !name.is_ascii() || name.contains(' ')) {
        return Err(wrong("sni", "must be a DNS name"));
    }
    let secret = |name: Option<&String>| {
        text(name).map(|name| Name {
            namespace: object.namespace.clone(),
            name: name.into(),
        })
    };
    let resolver = ConsulResolver {
        address: text(spec.address.as_ref()).map(Into::into),
        datacenter: datacenter.into(),
        token: secret(spec.token_secret.as_ref()),
        trusted: secret(spec.ca_secret.as_ref()),
        certificate: secret(spec.tls_secret.as_ref()),
        server_name: server_name.map(Into::into),
    };
    if let Some(written) = resolver.address.as_deref()
        && !address::has_variables(written)
    {
        let address = address::parse(written).map_err(|fact| wrong("address", fact))?;
        check_scheme(&address, &resolver, problems)?;
    }
    Ok(resolver)
}

/// TLS must not be lost by a scheme.
fn check_scheme(
    address: &Address,
    resolver: &ConsulResolver,
    problems: &mut Vec<Problem>,
) -> Result<(), Problem> {
    let fields = [
        ("ca_secret", resolver.trusted.is_some()),
        ("tls_secret", resolver.certificate.is_some()),
        ("sni", resolver.server_name.is_some()),
    ];
    let Some((field, _)) = fields.into_iter().find(|(_, is_set)| *is_set) else {
        return Ok(());
    };
    match address {
        Address::Tcp {
            tls: Some(false), ..
        } => problems.push(Problem::ignored(
            Reason::CONFLICT,
            "spec.address",
            format!("address starts with http:// but {field} is set; using TLS"),
        )),
        Address::Tcp { .. } => {}
        Address::Unix(_) => {
            return Err(not_served(
                Kind::ConsulResolver,
                format!("spec.{field}"),
                format!("{field} cannot be used with a Unix socket"),
            ));
        }
    }
    Ok(())
}
