//! Route tables: virtual hosts with their routes, in the order in which they are tried.

use std::{
    fmt,
    sync::{Arc, OnceLock},
};

use bytes::Bytes;

use super::{Action, ListenerKey};

/// Path prefix of ACME HTTP-01 challenges (RFC 8555, 8.3). They come over HTTP and must not be redirected.
const ACME_CHALLENGE: &str = "/.well-known/acme-challenge/";

/// Header in which Envoy, or a trusted proxy in front of it, says by which scheme a request came.
pub const FORWARDED_PROTO: &str = "x-forwarded-proto";

/// Identity of a route table: one per chain of a listener, so that a change of one host's routes is a change of
/// one small table.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TableKey {
    /// The listener that it belongs to.
    pub listener: ListenerKey,
    /// TLS server name of the chain (`*` for any); `None` for the cleartext chain.
    pub server_name: Option<Arc<str>>,
}

impl fmt::Display for TableKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.server_name {
            Some(server_name) => write!(f, "{}/tls/{server_name}", self.listener),
            None => write!(f, "{}/cleartext", self.listener),
        }
    }
}

/// The routes of one filter chain.
#[derive(Clone, Debug)]
pub struct RouteTable {
    /// Which one.
    pub key: TableKey,
    /// Sorted by domain; domains are unique.
    pub virtual_hosts: Vec<VirtualHost>,
    /// Domains of requests that belong on another connection and are answered with 421, which tells a client that
    /// coalesced connections to open that one (RFC 9110, 15.5.20). None of them is a domain of `virtual_hosts`.
    pub misdirected: Vec<Arc<str>>,
    /// Port at which clients find the same by HTTP/3; told by `alt-svc` (RFC 7838).
    pub http3: Option<u16>,
}

/// The routes of one host name.
#[derive(Clone, Debug)]
pub struct VirtualHost {
    /// Host name or glob that selects it: `a.example`, `*.example`, `a.*`, `*`.
    pub domain: Arc<str>,
    /// What becomes of requests that did not come by HTTPS.
    pub insecure: Insecure,
    /// In the order in which they are tried.
    pub routes: Vec<Arc<Route>>,
}

/// What a virtual host does with insecure requests, and how they are told from secure ones. Where Envoy knows
/// the answer from the connection, one variant of each route is enough.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Insecure {
    /// All requests are routed: none is insecure, or insecure ones are welcome.
    Route,
    /// All requests are insecure: each is redirected to https.
    Redirect,
    /// All requests are insecure: none is answered.
    Reject,
    /// Those without `x-forwarded-proto: https` are redirected to https.
    RedirectByHeader,
    /// Those without `x-forwarded-proto: https` are not answered.
    RejectByHeader,
}

/// A form of a route in a virtual host, by how that treats insecure requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RouteForm {
    /// As it is.
    Plain,
    /// Only requests with `x-forwarded-proto: https`.
    Secure,
    /// The same match, redirected to https.
    Redirect,
}

/// How a text is compared.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum StringMatch {
    /// Equal.
    Exact(String),
    /// Starts with.
    Prefix(String),
    /// Ends with.
    Suffix(String),
    /// Matches as a whole (RE2).
    Regex(String),
}

/// How the path is compared; the query is not part of it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum PathMatch {
    /// Equal.
    Exact(String),
    /// Starts with, as text.
    Prefix(String),
    /// Matches as a whole (RE2).
    Regex(String),
}

/// A condition on a header.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HeaderMatch {
    /// Header name, or a pseudo-header such as `:method`.
    pub name: String,
    /// Condition on its value.
    pub value: StringMatch,
}

/// A condition on a query parameter.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct QueryMatch {
    /// Parameter name.
    pub name: String,
    /// Condition on its value.
    pub value: StringMatch,
}

/// One route: which requests, and where they go.
#[derive(Debug)]
pub struct Route {
    /// Name in Envoy's logs: what the user calls it.
    pub name: String,
    /// Condition on the path.
    pub path: PathMatch,
    /// Whether letters of the path are compared with their case. Regexes always are.
    pub case_sensitive: bool,
    /// Conditions on headers, all of which must hold.
    pub headers: Vec<HeaderMatch>,
    /// Condition on the host name: the glob of the route. Left out where the virtual host implies it.
    pub authority: Option<StringMatch>,
    /// Conditions on query parameters, all of which must hold.
    pub query: Vec<QueryMatch>,
    /// Percentage of matching requests that take this route, 0 to 100; the others try the next one. `None`: all.
    pub percentage: Option<u32>,
    /// What is done with them.
    pub action: Action,
    /// See [`Route::encoded`]. Not part of equality.
    encoded: [OnceLock<Bytes>; 8],
}

impl Route {
    /// A route that has not been encoded yet.
    #[must_use]
    pub fn new(name: String, path: PathMatch, action: Action) -> Self {
        Self {
            name,
            path,
            case_sensitive: true,
            headers: Vec::new(),
            authority: None,
            query: Vec::new(),
            percentage: None,
            action,
            encoded: Default::default(),
        }
    }

    /// The encoded route in this form, in a virtual host that implies the route's condition on the host name or does
    /// not. Encoded once per form and kept until the route is replaced.
    pub fn encoded(
        &self,
        form: RouteForm,
        with_authority: bool,
        encode: impl FnOnce() -> Bytes,
    ) -> Bytes {
        let slot = form as usize * 2 + usize::from(with_authority);
        self.encoded[slot].get_or_init(encode).clone()
    }

    /// The forms of this route that a virtual host needs, in order.
    #[must_use]
    pub fn forms(&self, insecure: Insecure) -> &'static [RouteForm] {
        if matches!(&self.path, PathMatch::Prefix(prefix) if prefix == ACME_CHALLENGE) {
            return &[RouteForm::Plain];
        }
        let never_secure = self.headers.iter().any(|header| {
            let other = matches!(&header.value, StringMatch::Exact(value) if value != "https");
            header.name == FORWARDED_PROTO && other
        });
        match insecure {
            Insecure::RedirectByHeader if never_secure => &[RouteForm::Redirect],
            Insecure::RejectByHeader if never_secure => &[],
            Insecure::Route => &[RouteForm::Plain],
            Insecure::Redirect => &[RouteForm::Redirect],
            Insecure::Reject => &[],
            Insecure::RedirectByHeader => &[RouteForm::Secure, RouteForm::Redirect],
            Insecure::RejectByHeader => &[RouteForm::Secure],
        }
    }

    /// Whether a virtual host that redirects or rejects every insecure request renders both routes the same: they have
    /// the same match, and their actions are not used.
    #[must_use]
    pub fn is_same_when_redirected(&self, other: &Self) -> bool {
        let uses_action = self
            .forms(Insecure::Redirect)
            .iter()
            .any(|form| !matches!(form, RouteForm::Redirect));
        self.has_same_match(other) && (!uses_action || self.action == other.action)
    }

    fn has_same_match(&self, other: &Self) -> bool {
        self.name == other.name
            && self.path == other.path
            && self.case_sensitive == other.case_sensitive
            && self.headers == other.headers
            && self.authority == other.authority
            && self.query == other.query
            && self.percentage == other.percentage
    }
}

/// The encoded forms are not part of equality.
impl PartialEq for Route {
    fn eq(&self, other: &Self) -> bool {
        self.has_same_match(other) && self.action == other.action
    }
}

impl Eq for Route {}
