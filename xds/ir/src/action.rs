//! What is done with the requests that a route matches: they are forwarded, and changed on the way, or redirected.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

/// What is done with a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// It goes to an upstream.
    Forward(Box<Forward>),
    /// The client is sent elsewhere.
    Redirect(Redirect),
}

impl Action {
    /// Where requests go, if they go anywhere.
    #[must_use]
    pub fn forward(&self) -> Option<&Forward> {
        match self {
            Self::Forward(forward) => Some(forward),
            Self::Redirect(_) => None,
        }
    }
}

/// Where a request goes, and how it is changed on the way.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Forward {
    /// Name of the [`super::Cluster`].
    pub cluster: Arc<str>,
    /// Change of the path.
    pub rewrite: Rewrite,
    /// Host header that the upstream gets; `None`: the client's.
    pub host: Option<String>,
    /// Time for the whole response; zero: no limit.
    pub timeout: Duration,
    /// Time without any traffic on a stream; zero: no limit; `None`: the default of the listener.
    pub idle_timeout: Option<Duration>,
    /// When a request is tried again; `None`: never.
    pub retry: Option<RetryPolicy>,
    /// Upstreams that get copies of requests.
    pub mirrors: Vec<Mirror>,
    /// What is hashed, where the balancer of the upstream chooses by a hash.
    pub hash: Option<HashPolicy>,
    /// Protocols that a connection may be upgraded to.
    pub upgrades: Vec<String>,
    /// Whether the circuit breakers for high priority count.
    pub high_priority: bool,
    /// Changes of headers on the way to the upstream.
    pub request_headers: HeaderChanges,
    /// Changes of headers on the way back.
    pub response_headers: HeaderChanges,
    /// Cross-origin resource sharing; `None`: responses are left as they are.
    pub cors: Option<Cors>,
    /// What the authorization service is asked.
    pub authorization: Authorization,
    /// Descriptions of a request by which the rate limit service counts it.
    pub rate_limits: Vec<RateLimit>,
    /// Bodies that replace those of errors, by status code.
    pub error_bodies: BTreeMap<u16, ErrorBody>,
}

/// Change of a path.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Rewrite {
    /// None.
    #[default]
    Keep,
    /// What the path condition matched (all of it for exact and regex conditions) is replaced by this text.
    Prefix(String),
    /// All of the path is replaced; the query stays unless the text has one. For redirects only.
    Whole(String),
    /// What the pattern (RE2) matches is replaced by the substitution.
    Regex {
        /// RE2 pattern.
        pattern: String,
        /// Replacement; `\1` to `\9` are groups.
        substitution: String,
    },
}

/// Sends a client elsewhere.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Redirect {
    /// `http` or `https`; `None`: that of the request.
    pub scheme: Option<String>,
    /// Host of the new address, with its port where it has one.
    pub host: String,
    /// Change of the path.
    pub path: Rewrite,
    /// Status code: 301, 302, 303, 307 or 308; `None`: 301.
    pub code: Option<u16>,
}

/// When a request is tried again (`envoy.config.route.v3.RetryPolicy`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RetryPolicy {
    /// Condition, as Envoy's `x-envoy-retry-on` names it.
    pub on: String,
    /// How often at most; `None`: once.
    pub retries: Option<u32>,
    /// Time for each try; `None`: the time for the whole.
    pub per_try_timeout: Option<Duration>,
}

/// An upstream that gets copies of requests, its answers being dropped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mirror {
    /// Name of the [`super::Cluster`].
    pub cluster: Arc<str>,
    /// Percentage of the requests, 0 to 100.
    pub percentage: u32,
}

/// What is hashed to choose an address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HashPolicy {
    /// The value of a cookie.
    Cookie {
        /// Name.
        name: String,
        /// Path of a cookie that Envoy makes.
        path: Option<String>,
        /// How long a cookie lives that Envoy makes, zero being a session; `None`: Envoy makes none.
        ttl: Option<Duration>,
    },
    /// The value of a header.
    Header(String),
    /// The client's address.
    SourceIp,
}

/// Changes of headers, in order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HeaderChanges {
    /// Headers that are added, by name.
    pub add: BTreeMap<String, AddedHeader>,
    /// Headers that are removed.
    pub remove: Vec<String>,
}

/// A header that is added.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AddedHeader {
    /// Value, with Envoy's `%…%` operators.
    pub value: String,
    /// Whether it comes beside values that are there already, or replaces them.
    pub append: bool,
}

/// Cross-origin resource sharing (`envoy.extensions.filters.http.cors.v3.CorsPolicy`).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cors {
    /// Origins that are allowed; `*` for any.
    pub origins: Vec<String>,
    /// Value of `access-control-allow-methods`.
    pub methods: String,
    /// Value of `access-control-allow-headers`.
    pub headers: String,
    /// Value of `access-control-expose-headers`.
    pub exposed_headers: String,
    /// Value of `access-control-max-age`.
    pub max_age: String,
    /// Whether credentials may be sent along.
    pub credentials: bool,
}

/// What the authorization service is asked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Authorization {
    /// Whether a request may pass.
    #[default]
    Ask,
    /// Whether it may pass, being told this too.
    AskWith(BTreeMap<String, String>),
    /// Nothing.
    Bypass,
}

/// One description of a request for the rate limit service: all its parts together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RateLimit {
    /// The parts.
    pub parts: Vec<RateLimitPart>,
}

/// A part of a description.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RateLimitPart {
    /// The cluster that the request came from.
    SourceCluster,
    /// The cluster that the request goes to.
    DestinationCluster,
    /// The address of the client.
    RemoteAddress,
    /// A fixed value.
    Fixed {
        /// Key of the part.
        key: String,
        /// Its value.
        value: String,
    },
    /// The value of a header.
    Header {
        /// Key of the part.
        key: String,
        /// Name of the header.
        header: String,
        /// Whether a request without the header is described without this part, or not at all.
        optional: bool,
    },
}

/// A body that replaces that of an error.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ErrorBody {
    /// What it holds.
    pub format: BodyFormat,
    /// Content type; `None`: that of the format.
    pub content_type: Option<String>,
}

/// What a body holds; texts may use Envoy's `%…%` operators.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BodyFormat {
    /// Text.
    Text(String),
    /// A JSON object.
    Json(BTreeMap<String, String>),
}
