//! Route tables: virtual hosts with their routes, in matching order.

use std::{
    fmt,
    sync::{Arc, OnceLock},
};

use bytes::Bytes;

use super::{Action, ListenerKey};

/// Path prefix of ACME HTTP-01 challenges (RFC 8555, 8.3). They use HTTP and must not be redirected.
const ACME_CHALLENGE: &str = "/.well-known/acme-challenge/";

/// Header with the scheme of a request, set by Envoy or by a trusted proxy in front.
pub const FORWARDED_PROTO: &str = "x-forwarded-proto";

/// Identity of a route table. Each chain of a listener has its own, so that a change of one host's routes changes one
/// small table.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TableKey {
    /// The listener of the chain.
    pub listener: ListenerKey,
    /// TLS server name of the chain (`*` for any); `None`: the cleartext chain.
    pub server_name: Option<Arc<str>>,
}

impl TableKey {
    /// The key that is printed like this.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let (listener, chain) = text.split_once('/')?;
        let server_name = match chain.split_once('/') {
            Some(("tls", server_name)) => Some(server_name.into()),
            None if chain == "cleartext" => None,
            Some(_) | None => return None,
        };
        Some(Self {
            listener: ListenerKey::parse(listener)?,
            server_name,
        })
    }
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
    /// Identity.
    pub key: TableKey,
    /// Virtual hosts, sorted by domain, without duplicates.
    pub virtual_hosts: Vec<VirtualHost>,
    /// Domains whose requests get 421, because they must use another connection: a client that coalesced connections then
    /// opens a new one (RFC 9110, 15.5.20). None of them is a domain of `virtual_hosts`.
    pub misdirected: Vec<Arc<str>>,
    /// Port of HTTP/3, advertised by `alt-svc` (RFC 7838).
    pub http3: Option<u16>,
}

/// The routes of one domain.
#[derive(Clone, Debug)]
pub struct VirtualHost {
    /// Host name or glob, in lower case and without a dot at the end: `a.example`, `*.example`, `a.*`, `*`. With a port
    /// (`a.example:8443`) it serves only requests to that port, otherwise those to any other.
    pub domain: Arc<str>,
    /// Handling of requests that are not secure.
    pub insecure: Insecure,
    /// Routes, in matching order.
    pub routes: Vec<Arc<Route>>,
}

/// A hostname without its port, and the port. The colons of an IPv6 address in brackets are none of a port.
#[must_use]
pub fn split_port(hostname: &str) -> (&str, Option<&str>) {
    let split = hostname.rsplit_once(':');
    let split = split.filter(|(_, port)| !port.contains(']'));
    split.map_or((hostname, None), |(name, port)| (name, Some(port)))
}

/// How a virtual host handles insecure requests, and how it detects them. If the connection decides, one form of each
/// route is enough.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Insecure {
    /// Route all requests: none is insecure, or insecure ones are allowed.
    Route,
    /// All requests are insecure: redirect them to https.
    Redirect,
    /// All requests are insecure: reject them (404).
    Reject,
    /// Redirect requests without `x-forwarded-proto: https` to https.
    RedirectByHeader,
    /// Reject requests without `x-forwarded-proto: https` (404).
    RejectByHeader,
}

/// A form of a route in a virtual host, which depends on [`Insecure`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RouteForm {
    /// The route itself.
    Plain,
    /// The route, for requests with `x-forwarded-proto: https` only.
    Secure,
    /// A redirect to https with the match of the route.
    Redirect,
}

/// A condition on a text.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum StringMatch {
    /// Equal.
    Exact(String),
    /// Starts with this text.
    Prefix(String),
    /// Ends with this text.
    Suffix(String),
    /// The whole text matches this RE2 pattern.
    Regex(String),
}

/// A condition on the path, without its query.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum PathMatch {
    /// Equal.
    Exact(String),
    /// Starts with this text, which can end within a segment.
    Prefix(String),
    /// The whole path matches this RE2 pattern.
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

/// A route: a match and an action.
#[derive(Debug)]
pub struct Route {
    /// Name in Envoy's logs, which users recognize.
    pub name: String,
    /// Condition on the path.
    pub path: PathMatch,
    /// Whether path matching is case-sensitive. Regexes always are.
    pub case_sensitive: bool,
    /// Conditions on headers; all must hold.
    pub headers: Vec<HeaderMatch>,
    /// Condition on the host name as it was sent, port included. Not rendered where the virtual host implies it.
    pub authority: Option<StringMatch>,
    /// Conditions on query parameters; all must hold.
    pub query: Vec<QueryMatch>,
    /// Percentage of matching requests that use this route, 0 to 100; others continue with the next route. `None`: all.
    pub percentage: Option<u32>,
    /// Action.
    pub action: Action,
    /// See [`Route::encoded`]. Not part of equality.
    encoded: [OnceLock<Bytes>; 8],
}

impl Route {
    /// A case-sensitive route with no condition but its path.
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

    /// The encoded route in this form, with or without its condition on the host name. Encoded once per form and kept until
    /// the route is replaced.
    pub fn encoded(
        &self,
        form: RouteForm,
        with_authority: bool,
        encode: impl FnOnce() -> Bytes,
    ) -> Bytes {
        let slot = form as usize * 2 + usize::from(with_authority);
        self.encoded[slot].get_or_init(encode).clone()
    }

    /// The forms of this route in a virtual host, in order.
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

    /// Whether both routes render to the same bytes in a virtual host that redirects all requests: their matches are equal,
    /// and so is of their actions what is used.
    #[must_use]
    pub fn is_same_when_redirected(&self, other: &Self) -> bool {
        let uses_action = self
            .forms(Insecure::Redirect)
            .iter()
            .any(|form| !matches!(form, RouteForm::Redirect));
        self.has_same_match(other)
            && if uses_action {
                self.action == other.action
            } else {
                self.action.response_headers() == other.action.response_headers()
            }
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

/// Encoded forms are not part of equality.
impl PartialEq for Route {
    fn eq(&self, other: &Self) -> bool {
        self.has_same_match(other) && self.action == other.action
    }
}

impl Eq for Route {}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{HeaderChanges, Redirect};

    #[test]
    fn redirects_to_https_differ_by_response_headers() {
        let route = |host: &str, removed: &[&str]| {
            let redirect = Redirect {
                host: host.to_owned(),
                response_headers: HeaderChanges {
                    remove: removed.iter().map(ToString::to_string).collect(),
                    ..HeaderChanges::default()
                },
                ..Redirect::default()
            };
            let path = PathMatch::Prefix("/".to_owned());
            Route::new("a".to_owned(), path, Action::Redirect(redirect))
        };
        let first = route("a", &["server"]);
        assert!(first.is_same_when_redirected(&route("b", &["server"])));
        assert!(!first.is_same_when_redirected(&route("a", &[])));
    }
}
