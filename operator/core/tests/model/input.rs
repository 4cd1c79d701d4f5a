//! A configuration, as its author means it. [`super::manifest`] writes it as Kubernetes objects.

use std::collections::BTreeMap;

pub(crate) type Labels = BTreeMap<&'static str, &'static str>;

/// Everything that the gateway gets.
#[derive(Clone, Debug)]
pub(crate) struct Input {
    pub(crate) listeners: Vec<Listener>,
    pub(crate) hosts: Vec<Host>,
    pub(crate) mappings: Vec<Mapping>,
    pub(crate) tcp_mappings: Vec<TcpMapping>,
    /// `DISABLE_STRICT_LABEL_SELECTORS`
    pub(crate) loose: bool,
}

/// `metadata`
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Meta {
    pub(crate) name: &'static str,
    pub(crate) namespace: &'static str,
    pub(crate) labels: Labels,
}

impl Meta {
    /// What objects are ordered by (decision 1).
    pub(crate) fn key(&self) -> String {
        format!("{}.{}.1", self.name, self.namespace)
    }

    pub(crate) fn has(&self, (key, value): (&str, &str)) -> bool {
        self.labels.get(key) == Some(&value)
    }
}

/// A cleartext Listener on port 8080.
#[derive(Clone, Debug)]
pub(crate) struct Listener {
    pub(crate) meta: Meta,
    /// Hour of its creation.
    pub(crate) created: u32,
    pub(crate) model: SecurityModel,
    /// `hostBinding.namespace.from: ALL` instead of `SELF`
    pub(crate) all_namespaces: bool,
    /// `hostBinding.selector.matchLabels`
    pub(crate) selector: Option<(&'static str, &'static str)>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum SecurityModel {
    Xfp,
    Secure,
    Insecure,
}

#[derive(Clone, Debug)]
pub(crate) struct Host {
    pub(crate) meta: Meta,
    pub(crate) hostname: Option<&'static str>,
    pub(crate) selector: Option<Selector>,
    /// Written as the deprecated `selector`.
    pub(crate) deprecated: bool,
    pub(crate) insecure: Insecure,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Insecure {
    Route,
    Redirect,
    Reject,
}

#[derive(Clone, Debug)]
pub(crate) struct Selector {
    pub(crate) labels: Labels,
    pub(crate) expressions: Vec<Expression>,
}

/// An item of `matchExpressions`.
#[derive(Clone, Debug)]
pub(crate) struct Expression {
    pub(crate) key: &'static str,
    pub(crate) operator: Operator,
    pub(crate) values: Vec<&'static str>,
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum Operator {
    In,
    NotIn,
    Exists,
    DoesNotExist,
}

#[derive(Clone, Debug)]
pub(crate) struct Mapping {
    pub(crate) meta: Meta,
    /// Which no other Mapping has. It makes the service one of its own.
    pub(crate) number: usize,
    /// Whether its `ambassador_id` is that of the gateway.
    pub(crate) ours: bool,
    pub(crate) condition: Condition,
    pub(crate) case_sensitive: Option<bool>,
    pub(crate) weight: Option<u32>,
    pub(crate) redirect: bool,
    pub(crate) shadow: bool,
    pub(crate) mistake: Option<Mistake>,
}

/// The fields that say which requests a Mapping matches.
#[derive(Clone, Debug)]
pub(crate) struct Condition {
    pub(crate) hostname: Option<&'static str>,
    pub(crate) host: Option<&'static str>,
    pub(crate) host_regex: bool,
    /// `headers[":authority"]`
    pub(crate) authority: Option<&'static str>,
    pub(crate) prefix: &'static str,
    pub(crate) prefix_exact: bool,
    pub(crate) prefix_regex: bool,
    pub(crate) method: Option<&'static str>,
    pub(crate) method_regex: bool,
    pub(crate) headers: Labels,
    pub(crate) regex_headers: Labels,
    pub(crate) query: Labels,
    pub(crate) regex_query: Labels,
    pub(crate) precedence: Option<i64>,
}

/// What is wrong with a Mapping.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Mistake {
    /// No resolver has the name: the Mapping is accepted, and its share of the requests gets 503.
    Resolver,
    /// The Mapping is rejected: `service` has a scheme that does not exist.
    Scheme,
    /// The Mapping is rejected: a field has a value of another type.
    Type,
    /// The Mapping is rejected: a pattern does not compile, and without it another path would reach the service.
    Rewrite,
    /// The match is invalid: a header has a pattern that does not compile.
    Header,
    /// The match is invalid: the hostname has two wildcards.
    Hostname,
}

impl Mistake {
    /// Whether the Mapping is rejected.
    pub(crate) fn rejects(self) -> bool {
        self != Self::Resolver
    }

    /// Whether nothing is known of the requests that are meant.
    pub(crate) fn is_in_match(self) -> bool {
        matches!(self, Self::Header | Self::Hostname)
    }
}

/// A TCPMapping without `host`.
#[derive(Clone, Debug)]
pub(crate) struct TcpMapping {
    pub(crate) meta: Meta,
    pub(crate) number: usize,
    pub(crate) port: u16,
    pub(crate) address: Option<&'static str>,
    pub(crate) weight: Option<u32>,
}
