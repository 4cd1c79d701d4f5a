//! Whether rules permit what a program does, and nothing else: `config/rbac` and the operator, or those of the conversion webhook.
//! The rules on one side, the requests in the audit logs of a run on the other.
//!
//! A rejected request that the rules permit is no finding: tests take permissions away, and requests come before an
//! installation is complete or after it was removed.

mod audit;
mod rules;

use std::{collections::BTreeSet, fmt, path::Path};

use anyhow::{Result, ensure};

use crate::control_plane::NAMESPACE;

/// What a rule permits, as one verb on one resource.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Permission {
    group: String,
    /// With the subresource: `hosts/status`.
    resource: String,
    verb: String,
    /// The only object, if the rule names it.
    name: Option<String>,
    /// Whether it holds in all namespaces, and not only in that of the operator.
    is_everywhere: bool,
}

/// One request of a program for a resource.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Request {
    group: String,
    resource: String,
    verb: String,
    name: String,
    /// Empty for a request in all namespaces, and for what is not in a namespace.
    namespace: String,
    is_allowed: bool,
}

impl Permission {
    fn permits(&self, request: &Request) -> bool {
        self.group == request.group
            && self.resource == request.resource
            && self.verb == request.verb
            && self.name.as_ref().is_none_or(|name| *name == request.name)
            && (self.is_everywhere || request.namespace == NAMESPACE)
    }

    /// Whether the request is a reason to have it, although there may be a narrower one.
    fn is_needed_for(&self, request: &Request, all: &BTreeSet<Self>) -> bool {
        let is_narrower = |other: &Self| {
            (other.is_everywhere, other.name.is_none()) < (self.is_everywhere, self.name.is_none())
        };
        request.is_allowed
            && self.permits(request)
            && (!self.is_everywhere || request.namespace != NAMESPACE)
            && !all
                .iter()
                .any(|other| is_narrower(other) && other.permits(request))
    }
}

impl fmt::Display for Permission {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} {}", self.verb, self.resource)?;
        if !self.group.is_empty() {
            write!(formatter, ".{}", self.group)?;
        }
        if let Some(name) = &self.name {
            write!(formatter, " named {name}")?;
        }
        match self.is_everywhere {
            true => write!(formatter, " in all namespaces"),
            false => write!(formatter, " in the namespace of the operator"),
        }
    }
}

impl fmt::Display for Request {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { verb, resource, .. } = self;
        write!(formatter, "{verb} {resource}")?;
        if !self.group.is_empty() {
            write!(formatter, ".{}", self.group)?;
        }
        if !self.name.is_empty() {
            write!(formatter, " named {}", self.name)?;
        }
        match &*self.namespace {
            "" => write!(formatter, " in all namespaces"),
            namespace => write!(formatter, " in namespace {namespace}"),
        }
    }
}

/// Checks the rules for a ServiceAccount in one folder with the audit logs in another. Permissions that no request needed are an error only
/// after a complete run.
///
/// # Errors
/// A rule is missing or not needed, or a file cannot be read.
pub fn check(rules: &Path, account: &str, logs: &Path, is_complete: bool) -> Result<()> {
    let permissions = rules::read(rules)?;
    let requests = audit::read(logs, account)?;
    let mut findings = missing(&permissions, &requests);
    if is_complete {
        findings.extend(unused(&permissions, &requests));
    }
    let rules = rules.display();
    ensure!(
        findings.is_empty(),
        "{rules} differs from what {account} does:\n{}",
        findings.join("\n")
    );
    Ok(())
}

fn missing(permissions: &BTreeSet<Permission>, requests: &BTreeSet<Request>) -> Vec<String> {
    let rejected = requests.iter().filter(|request| !request.is_allowed);
    rejected
        .filter(|request| !permissions.iter().any(|one| one.permits(request)))
        .map(|request| format!("missing: {request} was rejected"))
        .collect()
}

fn unused(permissions: &BTreeSet<Permission>, requests: &BTreeSet<Request>) -> Vec<String> {
    let is_unused = |one: &&Permission| {
        let mut requests = requests.iter();
        !requests.any(|request| one.is_needed_for(request, permissions))
    };
    permissions
        .iter()
        .filter(is_unused)
        .map(|one| format!("unused: {one}"))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn permission(resource: &str, name: Option<&str>, is_everywhere: bool) -> Permission {
        Permission {
            group: String::new(),
            resource: resource.to_owned(),
            verb: "get".to_owned(),
            name: name.map(str::to_owned),
            is_everywhere,
        }
    }

    fn request(resource: &str, name: &str, namespace: &str, is_allowed: bool) -> Request {
        Request {
            group: String::new(),
            resource: resource.to_owned(),
            verb: "get".to_owned(),
            name: name.to_owned(),
            namespace: namespace.to_owned(),
            is_allowed,
        }
    }

    #[test]
    fn a_rejected_request_without_a_rule_is_missing() {
        let permissions = [permission("pods", None, false)].into();
        let requests = [
            request("pods", "a", NAMESPACE, false),
            request("pods", "a", "other", false),
            request("secrets", "a", NAMESPACE, false),
        ];
        assert_eq!(
            missing(&permissions, &requests.into()),
            [
                "missing: get pods named a in namespace other was rejected",
                "missing: get secrets named a in namespace nuncio-system was rejected",
            ]
        );
    }

    #[test]
    fn a_wider_rule_is_unused_if_a_narrower_one_is_enough() {
        let permissions = [
            permission("secrets", None, true),
            permission("secrets", Some("ca"), false),
        ]
        .into();
        let own = request("secrets", "ca", NAMESPACE, true);
        assert_eq!(
            unused(&permissions, &[own.clone()].into()),
            ["unused: get secrets in all namespaces"]
        );
        let other = request("secrets", "ca", "other", true);
        assert_eq!(
            unused(&permissions, &[other.clone()].into()),
            ["unused: get secrets named ca in the namespace of the operator"]
        );
        assert_eq!(
            unused(&permissions, &[own, other].into()),
            Vec::<String>::new()
        );
    }

    #[test]
    fn a_rejected_request_uses_nothing() {
        let permissions = [permission("pods", None, true)].into();
        let requests = [request("pods", "", "", false)].into();
        assert_eq!(
            unused(&permissions, &requests),
            ["unused: get pods in all namespaces"]
        );
    }
}
