//! What a Mapping adds: which requests it matches, and how it forwards or redirects them.

use std::{collections::BTreeMap, time::Duration};

use nuncio_ir::{
    AddedHeader, Authorization, Cors, ErrorBody, HashPolicy, HeaderChanges, HeaderMatch, PathMatch,
    QueryMatch, RateLimitPart, Redirect, RetryPolicy, Rewrite,
};

use super::{KnativeTerms, Rare, Upstream};
use crate::selector::Labels;

/// Requests and where they go.
#[derive(Clone, Debug, PartialEq)]
pub struct Mapping {
    /// Labels, which Hosts select by.
    pub labels: Labels,
    /// Condition on the hostname.
    pub host: HostMatch,
    /// Condition on the path.
    pub path: PathMatch,
    /// Whether the path is compared case-sensitively; `None`: the group decides.
    pub case_sensitive: Option<bool>,
    /// Conditions on headers: exact ones by name, then regexes by name, then the method.
    pub headers: Vec<HeaderMatch>,
    /// Conditions on query parameters: exact ones by name, then regexes by name.
    pub query: Vec<QueryMatch>,
    /// First criterion in the order of routes.
    pub precedence: i64,
    /// Percentage of the requests of its group; `None`: an equal share of what the weights leave.
    pub weight: Option<u32>,
    /// Role in its group.
    pub role: Role,
    /// Where requests go; `None` for a redirect and an invalid Mapping.
    pub upstream: Option<Upstream>,
    /// How its own share of the requests is forwarded.
    pub forwarding: Forwarding,
    /// Settings that apply to the whole group.
    pub shared: Rare<Shared>,
    /// The largest of its regular expressions, all of which are valid.
    pub regex: Option<LargestRegex>,
    /// What only a Mapping that is generated from a Knative Ingress has.
    pub knative: Rare<KnativeTerms>,
}

/// A regular expression that is larger than the others of its Mapping.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LargestRegex {
    /// Path of the field.
    pub path: String,
    /// The expression.
    pub pattern: String,
    /// Size of its program.
    pub size: usize,
}

/// Condition on the hostname.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum HostMatch {
    /// None: only Hosts that select the Mapping by label serve it.
    Unset,
    /// A glob, lower case.
    Glob(String),
    /// A regex (RE2) for the whole `:authority`.
    Regex(String),
}

/// Role of a Mapping in its group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Role {
    /// It gets a share of the requests.
    Forward,
    /// It redirects clients.
    Redirect(Box<Redirect>),
    /// It gets copies of requests.
    Shadow,
    /// It is invalid. Its requests get 503 unless another member of the group serves them: a mistake must not send them
    /// to a less specific route.
    Invalid,
}

/// The settings of a Mapping for its own share of the requests. The group completes them to a [`nuncio_ir::Forward`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Forwarding {
    /// Change of the path.
    pub rewrite: Option<Rewrite>,
    /// Host header that the upstream gets.
    pub host: Option<String>,
    /// Time for the whole response; zero: no limit.
    pub timeout: Option<Duration>,
    /// Time without any traffic on a stream; zero: no limit.
    pub idle_timeout: Option<Duration>,
    /// What is hashed, if the Mapping sets a load balancer that selects by a hash.
    pub hash: Option<HashPolicy>,
    /// How the authorization service is called.
    pub authorization: Authorization,
    /// Groups of labels for the rate limit service of each domain.
    pub rate_limits: BTreeMap<String, Vec<LabelGroup>>,
    /// Bodies that replace those of errors, by status code.
    pub error_bodies: Option<BTreeMap<u16, ErrorBody>>,
    /// Whether the header that Linkerd routes by is added.
    pub add_linkerd_headers: Option<bool>,
}

/// Labels that describe a request to a rate limit service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LabelGroup {
    /// What describes it; may be empty.
    pub parts: Vec<RateLimitPart>,
    /// Whether default labels come first.
    pub takes_defaults: bool,
}

/// Settings that apply to every Mapping of a group, whichever of them sets them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Shared {
    /// When a request is retried.
    pub retry_policy: Option<RetryPolicy>,
    /// Cross-origin resource sharing.
    pub cors: Option<Cors>,
    /// Protocols that a connection may be upgraded to.
    pub allow_upgrade: Option<Vec<String>>,
    /// Whether requests have high priority for circuit breakers.
    pub high_priority: Option<bool>,
    /// Change of the path, for Mappings without one of their own.
    pub regex_rewrite: Option<Rewrite>,
    /// Headers removed from requests.
    pub remove_request_headers: Option<Vec<String>>,
    /// Headers removed from responses.
    pub remove_response_headers: Option<Vec<String>>,
    /// Headers added to requests; the group adds those of all its Mappings.
    pub add_request_headers: Option<AddedHeaders>,
    /// Headers added to responses; the group adds those of all its Mappings.
    pub add_response_headers: Option<AddedHeaders>,
}

/// Added headers by name. `None`: the value cannot be rendered and was to replace others, so the header is removed.
pub type AddedHeaders = BTreeMap<String, Option<AddedHeader>>;

/// The changes of added and removed headers.
#[must_use]
pub fn header_changes(added: AddedHeaders, removed: Vec<String>) -> HeaderChanges {
    let mut changes = HeaderChanges {
        add: BTreeMap::new(),
        remove: removed,
    };
    for (name, header) in added {
        match header {
            Some(header) => {
                changes.add.insert(name, header);
            }
            None if changes.remove.contains(&name) => {}
            None => changes.remove.push(name),
        }
    }
    changes
}
