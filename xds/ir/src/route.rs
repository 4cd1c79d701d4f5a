//! Route tables: virtual hosts with their routes, in matching order.

use std::{
    fmt,
    sync::{Arc, Mutex, PoisonError},
};

use bytes::Bytes;

use super::{Action, ListenerKey, Origin, Unit};

/// Path prefix of ACME HTTP-01 challenges (RFC 8555, 8.3). They use HTTP and must not be redirected.
const ACME_CHALLENGE: &str = "/.well-known/acme-challenge/";

/// Cleartext in the names of tables.
const CLEARTEXT: &str = "cleartext";

/// All other host names in the names of tables.
const OTHER_HOSTS: &str = "*";

/// What the names of tables of redirects begin with. No host name has a slash.
const REDIRECTS: &str = "redirects/";

/// Header with the scheme of a request, set by Envoy or by a trusted proxy in front.
pub const FORWARDED_PROTO: &str = "x-forwarded-proto";

/// Identity of a route table. Each chain of a listener has its own, or several, so that a change of one host's routes
/// changes one small table.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TableKey {
    /// The listener of the chain.
    pub listener: ListenerKey,
    /// What connections and requests the table is for.
    pub scope: TableScope,
}

/// What connections and requests a route table is for.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum TableScope {
    /// Cleartext connections.
    Cleartext,
    /// Requests to this host name on cleartext connections.
    Host(Arc<str>),
    /// Requests to host names on cleartext connections whose requests are all redirected or rejected, if there are many. They
    /// share 256 tables.
    Redirects(u8),
    /// Requests to host names without a table of their own on cleartext connections.
    OtherHosts,
    /// TLS connections with this server name (`*` for any).
    Tls(Arc<str>),
}

impl TableKey {
    /// The table of redirects for a host name.
    #[must_use]
    pub fn redirects(listener: ListenerKey, host: &str) -> Self {
        // FNV-1a, folded to eight bits
        let hash = host.bytes().fold(0x811c_9dc5_u32, |hash, byte| {
            (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193)
        });
        let [one, two, three, four] = hash.to_le_bytes();
        Self {
            listener,
            scope: TableScope::Redirects(one ^ two ^ three ^ four),
        }
    }

    /// The key that is printed like this.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let (listener, chain) = text.split_once('/')?;
        let scope = match chain.split_once('/') {
            Some(("tls", server_name)) => TableScope::Tls(server_name.into()),
            Some((CLEARTEXT, OTHER_HOSTS)) => TableScope::OtherHosts,
            Some((CLEARTEXT, host)) => match host.strip_prefix(REDIRECTS) {
                Some(number) => TableScope::Redirects(number.parse().ok()?),
                None => TableScope::Host(host.into()),
            },
            None if chain == CLEARTEXT => TableScope::Cleartext,
            Some(_) | None => return None,
        };
        Some(Self {
            listener: ListenerKey::parse(listener)?,
            scope,
        })
    }
}

impl fmt::Display for TableKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/", self.listener)?;
        match &self.scope {
            TableScope::Cleartext => f.write_str(CLEARTEXT),
            TableScope::Host(host) => write!(f, "{CLEARTEXT}/{host}"),
            TableScope::Redirects(number) => write!(f, "{CLEARTEXT}/{REDIRECTS}{number}"),
            TableScope::OtherHosts => write!(f, "{CLEARTEXT}/{OTHER_HOSTS}"),
            TableScope::Tls(server_name) => write!(f, "tls/{server_name}"),
        }
    }
}

/// The routes of one filter chain, or some of them.
#[derive(Clone, Debug)]
pub struct RouteTable {
    /// Identity.
    pub key: TableKey,
    /// Whether it is one of several tables of a chain, of which the host name of a request, or the server name of a
    /// connection, selects one.
    pub is_selected: bool,
    /// Names with tables of their own, if this one has wildcards that include any.
    pub elsewhere: Vec<Arc<str>>,
    /// Virtual hosts, sorted by domain, without duplicates.
    pub virtual_hosts: Vec<VirtualHost>,
    /// Domains whose requests get 421, because they must use another connection: a client that coalesced connections then
    /// opens a new one (RFC 9110, 15.5.20). None of them is a domain of `virtual_hosts`.
    pub misdirected: Vec<Arc<str>>,
    /// Port of HTTP/3, advertised by `alt-svc` (RFC 7838).
    pub http3: Option<u16>,
}

impl RouteTable {
    /// Whether every request that selects the table must find a route. A filter takes requests without one for those without
    /// a table.
    #[must_use]
    pub const fn answers_all(&self) -> bool {
        match self.key.scope {
            TableScope::Host(_) | TableScope::Redirects(_) => true,
            TableScope::Tls(_) => self.is_selected,
            TableScope::Cleartext | TableScope::OtherHosts => false,
        }
    }

    /// The resources that a table is rendered to.
    pub fn units(&self) -> impl Iterator<Item = Unit> + use<> {
        let loading = self.is_selected.then(|| Unit::Loading(self.key.clone()));
        let selections = self.selections().into_iter().map(Unit::Selection);
        let table = Unit::RouteTable(self.key.clone());
        loading.into_iter().chain(selections).chain([table])
    }

    /// What selects the table: itself, or each of its host names.
    #[must_use]
    pub fn selections(&self) -> Vec<TableKey> {
        match self.key.scope {
            _ if !self.is_selected => Vec::new(),
            TableScope::Redirects(_) => {
                let hosts = self.virtual_hosts.iter();
                let of = |host: &VirtualHost| TableKey {
                    listener: self.key.listener,
                    scope: TableScope::Host(host.domain.clone()),
                };
                hosts.map(of).collect()
            }
            _ => vec![self.key.clone()],
        }
    }
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
    /// The object with this host name.
    pub origin: Origin,
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
    /// The object that it is for; `None`: the gateway itself.
    pub origin: Option<Origin>,
    /// The objects with the same match, which share its requests and whose settings can apply to it, its own included. Empty:
    /// there is no other.
    pub group: Arc<[Origin]>,
    /// See [`Route::encoded`]. Not part of equality. Most routes have one or two.
    encoded: Mutex<Vec<(RouteForm, bool, Bytes)>>,
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
            origin: None,
            group: Arc::default(),
            encoded: Mutex::default(),
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
        let mut all = self.encoded.lock().unwrap_or_else(PoisonError::into_inner);
        let mut known = all.iter();
        let known = known.find(|(of, with, _)| *of == form && *with == with_authority);
        if let Some((_, _, bytes)) = known {
            return bytes.clone();
        }
        let bytes = encode();
        all.reserve_exact(1);
        all.push((form, with_authority, bytes.clone()));
        bytes
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
        self.has_same_match(other)
            && self.action == other.action
            && self.origin == other.origin
            && self.group == other.group
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
            Route::new("a".to_owned(), path, Action::Redirect(Box::new(redirect)))
        };
        let first = route("a", &["server"]);
        assert!(first.is_same_when_redirected(&route("b", &["server"])));
        assert!(!first.is_same_when_redirected(&route("a", &[])));
    }
}
