//! Actions of a route: forward matching requests to an upstream, with changes, or redirect them.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use super::Origin;

/// Action of a route.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Forward requests to an upstream.
    Forward(Box<Forward>),
    /// Redirect clients.
    Redirect(Box<Redirect>),
    /// Answer 503: the route belongs to something that cannot be served, and its requests must not go elsewhere.
    Unavailable,
    /// Answer 200: the route is about the gateway itself, which serves it as soon as it is ready.
    Healthy,
}

impl Action {
    /// The forwarding action; `None` for a redirect.
    #[must_use]
    pub fn forward(&self) -> Option<&Forward> {
        match self {
            Self::Forward(forward) => Some(forward),
            Self::Redirect(_) | Self::Unavailable | Self::Healthy => None,
        }
    }

    /// Header changes of responses, also of those of Envoy itself.
    #[must_use]
    pub fn response_headers(&self) -> Option<&HeaderChanges> {
        match self {
            Self::Forward(forward) => Some(&forward.response_headers),
            Self::Redirect(redirect) => Some(&redirect.response_headers),
            Self::Unavailable | Self::Healthy => None,
        }
    }
}

/// Where requests are forwarded to, and how they are changed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Forward {
    /// Name of the [`super::Cluster`].
    pub cluster: Arc<str>,
    /// Path rewrite.
    pub rewrite: Rewrite,
    /// Host header of the upstream request; `None`: as received.
    pub host: Option<String>,
    /// Timeout of the whole response; zero: no limit.
    pub timeout: Duration,
    /// Idle timeout of a stream; zero: no limit; `None`: the default of the listener.
    pub idle_timeout: Option<Duration>,
    /// Retries; `None`: none.
    pub retry: Option<Box<RetryPolicy>>,
    /// Request mirroring.
    pub mirrors: Vec<Mirror>,
    /// What is hashed, for an upstream with a hashing load balancer.
    pub hash: Option<Box<HashPolicy>>,
    /// Protocols that connections can be upgraded to.
    pub upgrades: Vec<String>,
    /// Whether requests have high priority, which has its own circuit breakers.
    pub high_priority: bool,
    /// Header changes of requests.
    pub request_headers: HeaderChanges,
    /// Header changes of responses.
    pub response_headers: HeaderChanges,
    /// Cross-origin resource sharing; `None`: off.
    pub cors: Option<Box<Cors>>,
    /// Authorization of requests.
    pub authorization: Authorization,
    /// Descriptors that are sent to the rate limit service.
    pub rate_limits: Vec<RateLimit>,
    /// Replacements of error bodies, by status code.
    pub error_bodies: BTreeMap<u16, ErrorBody>,
    /// Whether there are none, whatever the listener has.
    pub keeps_error_bodies: bool,
}

/// Path rewrite.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Rewrite {
    /// Keep the path.
    #[default]
    Keep,
    /// Replace what the path condition matched (the whole path for exact and regex conditions).
    Prefix(String),
    /// Replace the whole path; the query is kept unless the text has one. For redirects only.
    FullPath(String),
    /// Replace what the pattern matches.
    Regex {
        /// RE2 pattern.
        pattern: String,
        /// Replacement; `\1` to `\9` refer to groups.
        substitution: String,
    },
}

/// Redirect of clients.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Redirect {
    /// `http` or `https`; `None`: the scheme of the request.
    pub scheme: Option<String>,
    /// Host of the new URL, with its port if it has one.
    pub host: String,
    /// Path rewrite.
    pub path: Rewrite,
    /// Status code: 301, 302, 303, 307 or 308; `None`: 301.
    pub code: Option<u16>,
    /// Header changes of the response.
    pub response_headers: HeaderChanges,
}

/// Retries of failed requests (`envoy.config.route.v3.RetryPolicy`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RetryPolicy {
    /// Condition, in the words of Envoy's `x-envoy-retry-on`.
    pub on: String,
    /// Maximum number of retries; `None`: one.
    pub retries: Option<u32>,
    /// Timeout of each try; `None`: that of the whole request.
    pub per_try_timeout: Option<Duration>,
}

/// An upstream that receives copies of requests; its responses are dropped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mirror {
    /// Name of the [`super::Cluster`].
    pub cluster: Arc<str>,
    /// Percentage of requests that are mirrored, 0 to 100.
    pub percentage: u32,
    /// The object that names the upstream.
    pub origin: Origin,
}

/// What is hashed to choose an endpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HashPolicy {
    /// The value of a cookie.
    Cookie {
        /// Name.
        name: String,
        /// Path of a cookie that Envoy generates.
        path: Option<String>,
        /// Lifetime of a cookie that Envoy generates, zero for a session cookie; `None`: Envoy generates none.
        ttl: Option<Duration>,
    },
    /// The value of a header.
    Header(String),
    /// The client's IP address.
    SourceIp,
}

/// Header changes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HeaderChanges {
    /// Headers to add, by name.
    pub add: BTreeMap<String, AddedHeader>,
    /// Headers to remove.
    pub remove: Vec<String>,
}

/// A header to add.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AddedHeader {
    /// Value, which can contain Envoy's `%…%` operators.
    pub value: String,
    /// Whether the value is appended to existing values instead of replacing them.
    pub append: bool,
}

/// Cross-origin resource sharing (`envoy.extensions.filters.http.cors.v3.CorsPolicy`).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cors {
    /// Allowed origins; `*` for any.
    pub origins: Vec<String>,
    /// Value of `access-control-allow-methods`.
    pub methods: String,
    /// Value of `access-control-allow-headers`.
    pub headers: String,
    /// Value of `access-control-expose-headers`.
    pub exposed_headers: String,
    /// Value of `access-control-max-age`.
    pub max_age: String,
    /// Whether requests may include credentials.
    pub credentials: bool,
}

/// Whether the authorization service is called.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Authorization {
    /// The service is called.
    #[default]
    Check,
    /// The service is called with these additional entries (`context_extensions`).
    CheckWith(BTreeMap<String, String>),
    /// Another service is called instead of the default one.
    By {
        /// The key of its [`crate::HttpFilter::Authorization`].
        service: Arc<str>,
        /// Additional entries (`context_extensions`).
        extensions: BTreeMap<String, String>,
    },
    /// The service is not called.
    Disabled,
}

/// One descriptor for the rate limit service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RateLimit {
    /// Entries of the descriptor.
    pub parts: Vec<RateLimitPart>,
}

/// An entry of a descriptor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RateLimitPart {
    /// The name of the cluster that Envoy belongs to.
    SourceCluster,
    /// The name of the upstream cluster.
    DestinationCluster,
    /// The IP address of the client.
    RemoteAddress,
    /// A fixed value.
    Fixed {
        /// Key of the entry.
        key: String,
        /// Value of the entry.
        value: String,
    },
    /// The value of a header.
    Header {
        /// Key of the entry.
        key: String,
        /// Name of the header.
        header: String,
        /// Whether a request without the header is sent without this entry; otherwise the whole descriptor is skipped.
        optional: bool,
    },
}

/// A replacement of an error body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ErrorBody {
    /// The body.
    pub format: BodyFormat,
    /// Content type; `None`: the default of the format.
    pub content_type: Option<String>,
}

/// A body; texts can contain Envoy's `%…%` operators.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BodyFormat {
    /// Text.
    Text(String),
    /// A JSON object.
    Json(BTreeMap<String, String>),
}
