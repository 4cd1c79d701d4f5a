//! `envoy.config.route.v3.VirtualHost`
//!
//! The name of a request selects its virtual host: the host name in lower case, without port and without the dot of a
//! fully qualified name, so that no spelling of a name reaches another Host. Envoy ignores case, and ports if the table
//! asks for it (`ignore_port_in_host_matching`); the spelling with a dot is a domain of its own. The request itself stays
//! as it was sent: to strip the port in the connection manager would also change what backends get.
//!
//! A route's own condition on the host name is compared with the host name as it was sent, port included. Most conditions
//! repeat the name of their virtual host, and differ from it only in requests with a port. So they are not rendered:
//! instead, one route that answers 404 to every host name with a port stands before those routes. It is the same in all
//! virtual hosts, so that they can still be shared, and costs one comparison, however many routes follow. On the spelling
//! with a dot such a condition is never met, so the route is left out.
//!
//! Hostnames with a port (`a.example:8443`) share the virtual host of their name, each with the condition on its port.

use std::{collections::BTreeMap, iter};

use bytes::Bytes;
use prost::{Message, Name};

use super::{
    route::{self, with_fields},
    route_tree::{self, Tree},
    wire::{self, Writer},
};
use crate::{
    ir::{self, RouteForm, StringMatch, route::split_port},
    pb::envoy::{
        config::route::v3::{RouteList, VirtualHost},
        r#type::matcher::v3::HttpRequestHeaderMatchInput,
    },
};

// Field numbers, by message.
const VIRTUAL_HOST_ROUTES: u32 = 3;
const VIRTUAL_HOST_MATCHER: u32 = 21;
const LIST_ROUTES: u32 = 1;
const MATCHER_TREE: u32 = 2;
const MATCHER_NO_MATCH: u32 = 3;
const TREE_INPUT: u32 = 1;
const TREE_PREFIXES: u32 = 3;
const MAP_ENTRIES: u32 = 1;
const ENTRY_KEY: u32 = 1;
const ENTRY_VALUE: u32 = 2;
const ON_MATCH_ACTION: u32 = 2;
const EXTENSION_NAME: u32 = 1;
const EXTENSION_CONFIG: u32 = 2;

const NOT_FOUND: u32 = 404;
const MISDIRECTED: u32 = 421;

/// What serves a hostname.
#[derive(Clone, Copy)]
enum Answer<'a> {
    Routes(&'a ir::VirtualHost),
    Misdirected,
}

/// The hostnames of one name.
#[derive(Default)]
struct Hostnames<'a> {
    /// Those with a port, which has to be the request's.
    with_port: Vec<(&'a str, Answer<'a>)>,
    /// The one for all other ports.
    any_port: Option<Answer<'a>>,
}

type Names<'a> = BTreeMap<&'a str, Hostnames<'a>>;

/// A route with its encoded forms.
struct Entry<'a> {
    /// A prefix of every path that it matches.
    head: &'a str,
    forms: Vec<Bytes>,
}

/// Whether the requests of a virtual host meet a route's condition on the host name.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Met {
    Always,
    WithoutPort,
    Sometimes,
    Never,
}

/// Encoded virtual hosts. Domains with equal routes share one: Envoy builds a table as a whole, so each virtual host adds
/// to the cost of every change.
pub(super) fn virtual_hosts(table: &ir::RouteTable) -> Vec<Bytes> {
    let names = names(table);
    // without wildcards Envoy has no other virtual host for a name, and answers 404 itself
    let has_wildcards = names.keys().any(|name| name.contains('*'));
    let mut places: BTreeMap<Bytes, usize> = BTreeMap::new();
    let mut shared: Vec<(Bytes, Vec<String>)> = Vec::new();
    for name in names.keys() {
        let sections = sections(&names, name);
        for domain in spellings(name) {
            let routes = routes(&entries(&domain, &sections));
            if routes.is_empty() && domain != *name && !has_wildcards {
                continue;
            }
            let place = *places.entry(routes.clone()).or_insert_with(|| {
                shared.push((routes, Vec::new()));
                shared.len() - 1
            });
            shared[place].1.push(domain);
        }
    }
    // Envoy counts by this name, so that equal names in all tables cost once
    let misdirected = [Entry::answer(route::answer(MISDIRECTED, None))];
    let misdirected = self::routes(&misdirected);
    let virtual_host = |(routes, domains): (Bytes, Vec<String>)| {
        let head = VirtualHost {
            name: match &routes {
                routes if *routes == misdirected => "misdirected".to_owned(),
                routes if routes.is_empty() => "not-found".to_owned(),
                _ => format!("{}-{}", table.key.listener, domains[0]),
            },
            domains,
            ..VirtualHost::default()
        };
        Writer::with_capacity(head.encoded_len() + routes.len())
            .message(&head)
            .encoded(&routes)
            .finish()
    };
    shared.into_iter().map(virtual_host).collect()
}

fn names(table: &ir::RouteTable) -> Names<'_> {
    let hosts = table.virtual_hosts.iter();
    let hosts = hosts.map(|host| (&*host.domain, Answer::Routes(host)));
    let misdirected = table.misdirected.iter();
    let misdirected = misdirected.map(|domain| (&**domain, Answer::Misdirected));
    let mut names = Names::new();
    for (hostname, answer) in hosts.chain(misdirected) {
        let (name, port) = split_port(hostname);
        let hostnames = names.entry(name).or_default();
        match port {
            Some(port) => hostnames.with_port.push((port, answer)),
            None => hostnames.any_port = Some(answer),
        }
    }
    names
}

/// The domains of a name. A wildcard at the end includes the dot.
fn spellings(name: &str) -> impl Iterator<Item = String> {
    let dotted = (!name.ends_with('*')).then(|| format!("{name}."));
    iter::once(name.to_owned()).chain(dotted)
}

/// What serves a name: hostnames with a port, and the one without. If there are only some with a port, the next wider name
/// serves the other ports.
fn sections<'a>(names: &Names<'a>, name: &str) -> Vec<(Option<&'a str>, Answer<'a>)> {
    let mut sections = Vec::new();
    let wider = iter::once_with(|| wider(names, name)).flatten();
    for hostnames in names.get(name).into_iter().chain(wider) {
        let with_port = hostnames.with_port.iter();
        sections.extend(with_port.map(|(port, answer)| (Some(*port), *answer)));
        if let Some(answer) = hostnames.any_port {
            sections.push((None, answer));
            break;
        }
    }
    sections
}

/// Wildcards that include a name, in the order in which Envoy prefers them. Those at the end include only some of the
/// names of a wildcard at the start, and are left out for it.
fn wider<'a, 'b>(names: &'b Names<'a>, name: &str) -> Vec<&'b Hostnames<'a>> {
    let end = name.strip_prefix('*').unwrap_or(name);
    let suffixes = (1..end.len()).filter_map(|at| Some(format!("*{}", end.get(at..)?)));
    let is_whole = end.len() == name.len();
    let prefixes = (1..name.len()).rev().filter(|_| is_whole);
    let prefixes = prefixes.filter_map(|at| Some(format!("{}*", name.get(..at)?)));
    let all = iter::once("*".to_owned()).filter(|_| name != "*");
    let wider = suffixes.chain(prefixes).chain(all);
    wider.filter_map(|glob| names.get(&*glob)).collect()
}

fn entries<'a>(domain: &str, sections: &[(Option<&str>, Answer<'a>)]) -> Vec<Entry<'a>> {
    let mut entries = Vec::new();
    for (port, answer) in sections {
        let host = port.map(|port| string_match(&format!("{domain}:{port}")));
        let only = host.as_ref().map(route::authority_matcher);
        match (answer, &host) {
            (Answer::Misdirected, _) => {
                entries.push(Entry::answer(route::answer(MISDIRECTED, only)));
            }
            (Answer::Routes(found), None) => add_routes(&mut entries, domain, found),
            (Answer::Routes(found), Some(host)) => {
                let encoded = |route: &ir::Route, form| route::encoded_for(route, form, host);
                let routes = found.routes.iter();
                entries.extend(routes.map(|route| Entry::new(found, route, encoded)));
                entries.push(Entry::answer(route::answer(NOT_FOUND, only)));
            }
        }
    }
    entries
}

/// Adds the routes of a hostname without a port, with only those conditions on the host name that decide anything.
fn add_routes<'a>(entries: &mut Vec<Entry<'a>>, domain: &str, host: &'a ir::VirtualHost) {
    let routes = host.routes.iter();
    let routes = routes.map(|route| (&**route, met(domain, route.authority.as_ref())));
    let routes: Vec<(&ir::Route, Met)> = routes
        .filter(|(route, met)| *met != Met::Never && !route.forms(host.insecure).is_empty())
        .collect();
    // behind these, no route matches a host name with a port
    let with_port = routes.iter().rposition(|(_, met)| *met != Met::WithoutPort);
    let first = with_port.map_or(0, |place| place + 1);
    for (place, (route, met)) in routes.iter().enumerate() {
        if place == first {
            entries.push(Entry::answer(route::answer(
                NOT_FOUND,
                Some(route::with_port()),
            )));
        }
        let with_authority = match met {
            Met::Always => false,
            Met::WithoutPort => place < first,
            Met::Sometimes | Met::Never => true,
        };
        entries.push(Entry::new(host, route, |route, form| {
            route::encoded(route, form, with_authority)
        }));
    }
}

impl<'a> Entry<'a> {
    fn new(
        host: &ir::VirtualHost,
        route: &'a ir::Route,
        encoded: impl Fn(&ir::Route, RouteForm) -> Bytes,
    ) -> Self {
        let forms = route.forms(host.insecure).iter();
        Self {
            head: route_tree::literal_head(route),
            forms: forms.map(|form| encoded(route, *form)).collect(),
        }
    }

    fn answer(encoded: Bytes) -> Self {
        Self {
            head: "/",
            forms: vec![encoded],
        }
    }
}

/// Whether the requests of a domain meet a route's condition on the host name. Requests of a whole name differ only in
/// the port.
fn met(domain: &str, authority: Option<&StringMatch>) -> Met {
    let Some(authority) = authority else {
        return Met::Always;
    };
    let is_dotted = domain.ends_with('.');
    let is_met = match authority {
        StringMatch::Exact(name) => {
            let is_other = split_port(name).0 != domain;
            let is_undotted = is_dotted && !split_port(name).0.ends_with('.');
            if is_undotted || is_other && !domain.contains('*') {
                return Met::Never;
            }
            name == domain
        }
        StringMatch::Suffix(suffix) => {
            let name = split_port(suffix).0;
            // digits alone may be the end of a port
            let has_name = name.contains(|character: char| !character.is_ascii_digit());
            if is_dotted && has_name && !name.ends_with('.') {
                return Met::Never;
            }
            domain.ends_with(suffix.as_str())
                && domain.len() > suffix.len()
                && !domain.ends_with('*')
        }
        StringMatch::Prefix(prefix) => {
            let is_met = domain.starts_with(prefix.as_str())
                && domain.len() > prefix.len()
                && !domain.starts_with('*');
            return if is_met { Met::Always } else { Met::Sometimes };
        }
        StringMatch::Regex(_) => false,
    };
    // an IPv6 address has colons without a port
    if is_met && !domain.contains(':') {
        Met::WithoutPort
    } else {
        Met::Sometimes
    }
}

/// The condition that is the same as this glob.
fn string_match(glob: &str) -> StringMatch {
    if let Some(suffix) = glob.strip_prefix('*') {
        StringMatch::Suffix(suffix.to_owned())
    } else if let Some(prefix) = glob.strip_suffix('*') {
        StringMatch::Prefix(prefix.to_owned())
    } else {
        StringMatch::Exact(glob.to_owned())
    }
}

/// The routes of a virtual host, as a list or, if there are many, as a tree.
fn routes(entries: &[Entry<'_>]) -> Bytes {
    let size = |entry: &Entry<'_>| entry.forms.iter().map(Bytes::len).sum();
    let sizes: Vec<usize> = entries.iter().map(size).collect();
    match route_tree::plan(entries.iter().map(|entry| entry.head), &sizes) {
        None => {
            let forms = entries.iter().flat_map(|entry| &entry.forms);
            let forms: Vec<Bytes> = forms.cloned().collect();
            Writer::default()
                .fields(VIRTUAL_HOST_ROUTES, &forms)
                .finish()
        }
        Some(tree) => Writer::default()
            .field(VIRTUAL_HOST_MATCHER, &matcher(&tree, entries))
            .finish(),
    }
}

/// A generic matcher that selects a short list of routes by path prefix (`xds.type.matcher.v3.Matcher`).
fn matcher(tree: &Tree<'_>, entries: &[Entry<'_>]) -> Bytes {
    let input = super::any(&HttpRequestHeaderMatchInput {
        header_name: ":path".to_owned(),
    });
    let leaves: Vec<Bytes> = tree
        .leaves
        .iter()
        .map(|(key, places)| {
            Writer::default()
                .field(ENTRY_KEY, key.as_bytes())
                .field(ENTRY_VALUE, &leaf(places, entries))
                .finish()
        })
        .collect();
    let prefixes = with_fields(&(), MAP_ENTRIES, &leaves);
    let tree_field = Writer::with_capacity(prefixes.len() + 128)
        .field(TREE_INPUT, &extension("path", &input.encode_to_vec()))
        .field(TREE_PREFIXES, &prefixes)
        .finish();
    let mut matcher =
        Writer::with_capacity(tree_field.len() + 128).field(MATCHER_TREE, &tree_field);
    if !tree.rest.is_empty() {
        matcher = matcher.field(MATCHER_NO_MATCH, &leaf(&tree.rest, entries));
    }
    matcher.finish()
}

/// `OnMatch` with a list of routes.
fn leaf(places: &[usize], entries: &[Entry<'_>]) -> Bytes {
    let routes: Vec<Bytes> = places
        .iter()
        .flat_map(|place| entries[*place].forms.iter().cloned())
        .collect();
    let list = with_fields(&(), LIST_ROUTES, &routes);
    let action = extension("routes", &wire::any(&RouteList::type_url(), &list));
    Writer::default().field(ON_MATCH_ACTION, &action).finish()
}

/// `xds.core.v3.TypedExtensionConfig`
fn extension(name: &str, config: &[u8]) -> Bytes {
    Writer::with_capacity(name.len() + config.len() + 16)
        .field(EXTENSION_NAME, name.as_bytes())
        .field(EXTENSION_CONFIG, config)
        .finish()
}

#[cfg(test)]
mod tests;
