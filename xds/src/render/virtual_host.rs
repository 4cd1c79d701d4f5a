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

use std::{cmp::Reverse, collections::BTreeMap, iter};

use bytes::Bytes;
use prost::{Message, Name};

use super::{
    route,
    route_tree::{self, Tree},
    wire::{Writer, field_len, fields_len},
};
use crate::{
    ir::{self, RouteForm, StringMatch, TableScope, route::split_port},
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
const ANY_TYPE_URL: u32 = 1;
const ANY_VALUE: u32 = 2;

/// Name of the action of a leaf.
const ROUTES: &[u8] = b"routes";

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

impl Hostnames<'_> {
    /// Whether another table serves the name.
    fn is_elsewhere(&self) -> bool {
        self.with_port.is_empty() && self.any_port.is_none()
    }
}

/// What serves each name of a table.
#[derive(Default)]
struct Names<'a> {
    by_name: BTreeMap<&'a str, Hostnames<'a>>,
    /// Ends of the wildcards at the start, the longest first.
    suffixes: Vec<&'a str>,
    /// Beginnings of the wildcards at the end, the longest first.
    prefixes: Vec<&'a str>,
}

impl<'a> Names<'a> {
    fn new(by_name: BTreeMap<&'a str, Hostnames<'a>>) -> Self {
        let globs = || by_name.keys().copied().filter(|name| *name != "*");
        let mut suffixes: Vec<&str> = globs().filter_map(|name| name.strip_prefix('*')).collect();
        let mut prefixes: Vec<&str> = globs().filter_map(|name| name.strip_suffix('*')).collect();
        for ends in [&mut suffixes, &mut prefixes] {
            ends.sort_by_key(|end| Reverse(end.len()));
        }
        Self {
            by_name,
            suffixes,
            prefixes,
        }
    }

    /// The virtual host that Envoy selects for a name: its own, else the longest wildcard at the start, which stands for at
    /// least one character, else the longest at the end.
    fn selected(&self, name: &str) -> Option<&'a str> {
        if let Some((own, _)) = self.by_name.get_key_value(name) {
            return Some(own);
        }
        let suffix = self
            .suffixes
            .iter()
            .find(|end| name.len() > end.len() && name.ends_with(**end));
        let prefix = self
            .prefixes
            .iter()
            .find(|start| name.len() > start.len() && name.starts_with(**start));
        let glob = match (suffix, prefix) {
            (Some(end), _) => format!("*{end}"),
            (None, Some(start)) => format!("{start}*"),
            (None, None) => "*".to_owned(),
        };
        self.by_name.get_key_value(&*glob).map(|(glob, _)| *glob)
    }
}

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
    let has_wildcards = names.by_name.keys().any(|name| name.contains('*'));
    let answers_all = table.answers_all();
    let mut places: BTreeMap<Bytes, usize> = BTreeMap::new();
    let mut shared: Vec<(Bytes, Vec<String>)> = Vec::new();
    // wildcards last: see below
    let whole = names.by_name.keys().filter(|name| !name.contains('*'));
    let wildcards = names.by_name.keys().filter(|name| name.contains('*'));
    let own = |name: &&&str| !names.by_name[**name].is_elsewhere();
    for name in whole.chain(wildcards).filter(own) {
        let sections = sections(&names, name);
        for domain in spellings(name) {
            let mut all = entries(None, &domain, &sections);
            if answers_all {
                // without a route Envoy would look for the table elsewhere
                all.push(Entry::answer(route::answer(NOT_FOUND, None)));
            }
            let mut routes = self::routes(&all);
            if routes.is_empty() && domain != *name && !has_wildcards {
                continue;
            }
            if domain.contains('*') && !places.contains_key(&routes) {
                // it would repeat the routes of every name below it; where it can share their virtual host, that costs nothing
                routes = self::routes(&entries(Some(&names), &domain, &sections));
            }
            let place = *places.entry(routes.clone()).or_insert_with(|| {
                shared.push((routes, Vec::new()));
                shared.len() - 1
            });
            shared[place].1.push(domain);
        }
    }
    let not_found = self::routes(&[Entry::answer(route::answer(NOT_FOUND, None))]);
    // the server name selects a table, whatever the host name is
    if answers_all
        && matches!(table.key.scope, TableScope::Tls(_))
        && !names.by_name.contains_key("*")
    {
        shared.push((not_found.clone(), vec!["*".to_owned()]));
    }
    // Envoy counts by this name, so that equal names in all tables cost once
    let misdirected = [Entry::answer(route::answer(MISDIRECTED, None))];
    let misdirected = self::routes(&misdirected);
    let virtual_host = |(routes, domains): (Bytes, Vec<String>)| {
        let head = VirtualHost {
            name: match &routes {
                routes if *routes == misdirected => "misdirected".to_owned(),
                routes if routes.is_empty() || *routes == not_found => "not-found".to_owned(),
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
    let elsewhere = table.elsewhere.iter();
    let elsewhere = elsewhere.map(|name| (&**name, Hostnames::default()));
    let mut names: BTreeMap<&str, Hostnames<'_>> = elsewhere.collect();
    for (hostname, answer) in hosts.chain(misdirected) {
        let (name, port) = split_port(hostname);
        let hostnames = names.entry(name).or_default();
        match port {
            Some(port) => hostnames.with_port.push((port, answer)),
            None => hostnames.any_port = Some(answer),
        }
    }
    Names::new(names)
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
    for hostnames in names.by_name.get(name).into_iter().chain(wider) {
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
    wider.filter_map(|glob| names.by_name.get(&*glob)).collect()
}

/// The routes of a domain. With `names`, those whose requests have another virtual host are left out.
fn entries<'a>(
    names: Option<&Names<'_>>,
    domain: &str,
    sections: &[(Option<&str>, Answer<'a>)],
) -> Vec<Entry<'a>> {
    let mut entries = Vec::new();
    for (port, answer) in sections {
        let host = port.map(|port| string_match(&format!("{domain}:{port}")));
        let only = host.as_ref().map(route::authority_matcher);
        match (answer, &host) {
            (Answer::Misdirected, _) => {
                entries.push(Entry::answer(route::answer(MISDIRECTED, only)));
            }
            (Answer::Routes(found), None) => add_routes(&mut entries, names, domain, found),
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
fn add_routes<'a>(
    entries: &mut Vec<Entry<'a>>,
    names: Option<&Names<'_>>,
    domain: &str,
    host: &'a ir::VirtualHost,
) {
    let met = |authority: Option<&StringMatch>| match (names, authority) {
        (Some(names), Some(authority)) if is_served_elsewhere(names, domain, authority) => {
            Met::Never
        }
        _ => met(domain, authority),
    };
    let routes = host.routes.iter();
    let routes = routes.map(|route| (&**route, met(route.authority.as_ref())));
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

/// Whether all names of a wildcard that meet a condition have a virtual host of their own, or a narrower wildcard.
fn is_served_elsewhere(names: &Names<'_>, domain: &str, authority: &StringMatch) -> bool {
    let domain = domain.trim_end_matches('.');
    match authority {
        StringMatch::Exact(hostname) => {
            let name = split_port(hostname).0.to_ascii_lowercase();
            names.selected(name.trim_end_matches('.')) != Some(domain)
        }
        StringMatch::Suffix(suffix) => {
            let own = domain.strip_prefix('*').unwrap_or_default();
            let end = split_port(suffix).0.to_ascii_lowercase();
            let end = end.trim_end_matches('.');
            let mut narrower = names.suffixes.iter().take_while(|it| it.len() > own.len());
            narrower.any(|it| end.ends_with(it))
        }
        StringMatch::Prefix(_) | StringMatch::Regex(_) => false,
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
            let forms = || entries.iter().flat_map(|entry| &entry.forms);
            let length = fields_len(VIRTUAL_HOST_ROUTES, forms());
            Writer::with_capacity(length)
                .fields(VIRTUAL_HOST_ROUTES, forms())
                .finish()
        }
        Some(tree) => matcher(&tree, entries),
    }
}

/// A generic matcher that selects a short list of routes by path prefix (`xds.type.matcher.v3.Matcher`). With 10,000 routes in
/// messages within messages, the lengths of all are computed first, and each byte is written once.
fn matcher(tree: &Tree<'_>, entries: &[Entry<'_>]) -> Bytes {
    let input = super::any(&HttpRequestHeaderMatchInput {
        header_name: ":path".to_owned(),
    });
    let input = input.encode_to_vec();
    let input = Writer::default()
        .field(EXTENSION_NAME, b"path")
        .field(EXTENSION_CONFIG, &input)
        .finish();
    let url = RouteList::type_url();
    let leaf = |places| Leaf::new(places, &url, entries);
    let leaves: Vec<(&str, Leaf<'_>)> = tree
        .leaves
        .iter()
        .map(|(key, places)| (*key, leaf(places)))
        .collect();
    let rest = (!tree.rest.is_empty()).then(|| leaf(&tree.rest));

    let entry_len = |(key, leaf): &(&str, Leaf<'_>)| {
        field_len(ENTRY_KEY, key.len()) + field_len(ENTRY_VALUE, leaf.on_match)
    };
    let prefixes_len = leaves.iter().map(entry_len);
    let prefixes_len = prefixes_len.map(|length| field_len(MAP_ENTRIES, length));
    let prefixes_len = prefixes_len.sum();
    let tree_len = field_len(TREE_INPUT, input.len()) + field_len(TREE_PREFIXES, prefixes_len);
    let rest_len = rest.iter().map(|leaf| leaf.on_match);
    let rest_len = rest_len.map(|length| field_len(MATCHER_NO_MATCH, length));
    let matcher_len = field_len(MATCHER_TREE, tree_len) + rest_len.sum::<usize>();

    let mut writer = Writer::with_capacity(field_len(VIRTUAL_HOST_MATCHER, matcher_len))
        .begin(VIRTUAL_HOST_MATCHER, matcher_len)
        .begin(MATCHER_TREE, tree_len)
        .field(TREE_INPUT, &input)
        .begin(TREE_PREFIXES, prefixes_len);
    for entry in &leaves {
        let (key, leaf) = entry;
        writer = writer
            .begin(MAP_ENTRIES, entry_len(entry))
            .field(ENTRY_KEY, key.as_bytes())
            .begin(ENTRY_VALUE, leaf.on_match);
        writer = leaf.write(writer);
    }
    if let Some(leaf) = rest {
        writer = leaf.write(writer.begin(MATCHER_NO_MATCH, leaf.on_match));
    }
    writer.finish()
}

/// A list of routes, with the lengths of the messages around it, from the inside out.
struct Leaf<'a> {
    places: &'a [usize],
    entries: &'a [Entry<'a>],
    url: &'a str,
    /// `envoy.config.route.v3.RouteList`
    list: usize,
    /// `google.protobuf.Any`
    any: usize,
    /// `xds.core.v3.TypedExtensionConfig`
    action: usize,
    /// `xds.type.matcher.v3.Matcher.OnMatch`
    on_match: usize,
}

impl<'a> Leaf<'a> {
    fn new(places: &'a [usize], url: &'a str, entries: &'a [Entry<'a>]) -> Self {
        let mut leaf = Self {
            places,
            entries,
            url,
            list: 0,
            any: 0,
            action: 0,
            on_match: 0,
        };
        leaf.list = fields_len(LIST_ROUTES, leaf.routes());
        leaf.any = field_len(ANY_TYPE_URL, url.len()) + field_len(ANY_VALUE, leaf.list);
        leaf.action =
            field_len(EXTENSION_NAME, ROUTES.len()) + field_len(EXTENSION_CONFIG, leaf.any);
        leaf.on_match = field_len(ON_MATCH_ACTION, leaf.action);
        leaf
    }

    fn routes(&self) -> impl Iterator<Item = &'a Bytes> {
        let entries = self.entries;
        let places = self.places.iter();
        places.flat_map(move |place| &entries[*place].forms)
    }

    /// Writes the content of `OnMatch`.
    fn write(&self, writer: Writer) -> Writer {
        writer
            .begin(ON_MATCH_ACTION, self.action)
            .field(EXTENSION_NAME, ROUTES)
            .begin(EXTENSION_CONFIG, self.any)
            .field(ANY_TYPE_URL, self.url.as_bytes())
            .begin(ANY_VALUE, self.list)
            .fields(LIST_ROUTES, self.routes())
    }
}

#[cfg(test)]
mod tests;
