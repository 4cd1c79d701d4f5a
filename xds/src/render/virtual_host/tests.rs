//! What Envoy does with the rendered virtual hosts, compared with what decides: the name selects the hostname, the host
//! name as it was sent is compared with the conditions of its routes.

use std::sync::Arc;

use super::*;
use crate::{
    ir::{Action, Insecure, PathMatch, Route, TableKey},
    pb::envoy::{
        config::route::v3::{
            self as pb, header_matcher::HeaderMatchSpecifier, route::Action as PbAction,
        },
        r#type::matcher::v3::string_matcher::MatchPattern,
    },
};

const HOSTNAMES: [&str; 7] = [
    "*",
    "a.example",
    "a.example:8443",
    "*.example",
    "*.example:8443",
    "a.*",
    "b.example",
];

const REQUESTS: [&str; 17] = [
    "a.example",
    "A.EXAMPLE",
    "a.example.",
    "a.example:80",
    "a.example:8443",
    "A.example.:8443",
    "a.example.:80",
    "a.example:",
    "b.example",
    "b.example:8443",
    "b.example.:80",
    "c.example",
    "c.example.",
    "c.example:8443",
    "a.test",
    "a.test.:8443",
    "d.test:80",
];

/// Conditions of the routes of every hostname, and whether they come before those that any host name meets.
fn conditions(hostname: &str) -> Vec<Option<StringMatch>> {
    let exact = |name: &str| Some(StringMatch::Exact(name.to_owned()));
    match hostname {
        "*" => vec![exact("a.example."), None],
        "a.*" => vec![Some(StringMatch::Prefix("a.".to_owned()))],
        "a.example" => vec![
            exact("a.example"),
            exact("a.example:8443"),
            exact("a.example"),
            Some(StringMatch::Suffix(".example".to_owned())),
        ],
        "b.example" => vec![exact("b.example"), None],
        _ => vec![
            Some(string_match(hostname)),
            Some(StringMatch::Suffix("e".to_owned())),
        ],
    }
}

fn table(hostnames: &[&str], misdirected: &[&str]) -> ir::RouteTable {
    let virtual_host = |hostname: &&str| {
        let routes = conditions(hostname).into_iter().enumerate();
        let routes = routes.map(|(number, authority)| {
            let path = PathMatch::Prefix("/".to_owned());
            let name = format!("{hostname} {number}");
            let mut route = Route::new(name, path, Action::Unavailable);
            route.authority = authority;
            Arc::new(route)
        });
        ir::VirtualHost {
            domain: (*hostname).into(),
            insecure: Insecure::Route,
            routes: routes.collect(),
        }
    };
    ir::RouteTable {
        key: TableKey {
            listener: ir::ListenerKey {
                port: 8080,
                transport: ir::Transport::Tcp,
                address: None,
            },
            server_name: None,
        },
        virtual_hosts: hostnames.iter().map(virtual_host).collect(),
        misdirected: misdirected.iter().map(|name| (*name).into()).collect(),
        http3: None,
    }
}

fn matches(condition: &StringMatch, text: &str) -> bool {
    match condition {
        StringMatch::Exact(name) => text == name,
        StringMatch::Prefix(start) => text.starts_with(start),
        StringMatch::Suffix(end) => text.ends_with(end),
        StringMatch::Regex(_) => unreachable!(),
    }
}

/// Whether a glob includes a name, and how much of the name it says.
fn specificity(glob: &str, name: &str) -> Option<(u8, usize)> {
    let rank = match (glob.strip_prefix('*'), glob.strip_suffix('*')) {
        _ if glob == "*" => 0,
        (Some(end), _) if name.len() > end.len() && name.ends_with(end) => 2,
        (_, Some(start)) if name.len() > start.len() && name.starts_with(start) => 1,
        _ if glob == name => 3,
        _ => return None,
    };
    Some((rank, glob.len()))
}

/// What a request gets: the name of a route, or a status.
fn expected(table: &ir::RouteTable, authority: &str) -> String {
    let authority = authority.to_ascii_lowercase();
    let (name, port) = split_port(&authority);
    let name = name.strip_suffix('.').unwrap_or(name);
    let mut found: Vec<_> = Vec::new();
    for host in &table.virtual_hosts {
        let (glob, only) = split_port(&host.domain);
        if let Some(specificity) = specificity(glob, name)
            && (only.is_none() || only == port)
        {
            found.push((specificity, only.is_some(), Some(host)));
        }
    }
    for domain in &table.misdirected {
        if let Some(specificity) = specificity(domain, name) {
            found.push((specificity, false, None));
        }
    }
    let best = found
        .into_iter()
        .max_by_key(|(specificity, has_port, _)| (*specificity, *has_port));
    let host = match best {
        None => return "404".to_owned(),
        Some((_, _, None)) => return "421".to_owned(),
        Some((_, _, Some(host))) => host,
    };
    let route = host.routes.iter().find(|route| {
        let authority = route
            .authority
            .as_ref()
            .map(|found| matches(found, &authority));
        authority.unwrap_or(true)
    });
    route.map_or("404".to_owned(), |route| route.name.clone())
}

/// What Envoy answers, with `ignore_port_in_host_matching`.
fn answered(hosts: &[pb::VirtualHost], authority: &str) -> String {
    let lower = authority.to_ascii_lowercase();
    let name = split_port(&lower).0;
    let domains = hosts.iter().flat_map(|host| {
        let domains = host.domains.iter();
        domains.filter_map(move |domain| Some((specificity(domain, name)?, host)))
    });
    let Some((_, host)) = domains.max_by_key(|(specificity, _)| *specificity) else {
        return "404".to_owned();
    };
    let is_met = |route: &&pb::Route| {
        let headers = &route.r#match.as_ref().unwrap().headers;
        headers.iter().all(|header| {
            let Some(HeaderMatchSpecifier::StringMatch(matcher)) = &header.header_match_specifier
            else {
                panic!("{header:?}")
            };
            let authority = if matcher.ignore_case {
                &lower
            } else {
                authority
            };
            match matcher.match_pattern.as_ref().unwrap() {
                MatchPattern::Exact(text) => authority == text,
                MatchPattern::Prefix(text) => authority.starts_with(text),
                MatchPattern::Suffix(text) => authority.ends_with(text),
                MatchPattern::Contains(text) => authority.contains(text),
                other => panic!("{other:?}"),
            }
        })
    };
    match host.routes.iter().find(is_met) {
        None => "404".to_owned(),
        Some(route) if !route.name.is_empty() => route.name.clone(),
        Some(route) => match &route.action {
            Some(PbAction::DirectResponse(response)) => response.status.to_string(),
            other => panic!("{other:?}"),
        },
    }
}

fn rendered(table: &ir::RouteTable) -> Vec<pb::VirtualHost> {
    let hosts = virtual_hosts(table).into_iter();
    hosts
        .map(|host| pb::VirtualHost::decode(host).unwrap())
        .collect()
}

#[test]
fn the_name_selects_the_hostname_and_conditions_see_the_host_name_as_sent() {
    for chosen in 0..1_u32 << HOSTNAMES.len() {
        let is_chosen = |place: usize| chosen & (1 << place) != 0;
        let places = (0..HOSTNAMES.len()).filter(|place| is_chosen(*place));
        let mut hostnames: Vec<&str> = places.map(|place| HOSTNAMES[place]).collect();
        hostnames.sort_unstable();
        // wildcards on both sides of a port: which of them is wider is not decided
        if is_chosen(4) && is_chosen(5) && !is_chosen(3) {
            continue;
        }
        let misdirected: &[&str] = if is_chosen(6) || is_chosen(0) {
            &["c.example"]
        } else {
            &["*", "b.example"]
        };
        let table = table(&hostnames, misdirected);
        let rendered = rendered(&table);
        let mut domains: Vec<_> = rendered.iter().flat_map(|host| &host.domains).collect();
        domains.sort_unstable();
        assert!(
            domains.is_sorted_by(|one, other| one < other),
            "{domains:?}"
        );
        for request in REQUESTS {
            assert_eq!(
                answered(&rendered, request),
                expected(&table, request),
                "{request} with {hostnames:?}: {rendered:#?}"
            );
        }
    }
}

#[test]
fn conditions_that_repeat_the_name_cost_one_route() {
    let conditions = |host: &pb::VirtualHost| {
        let routes = host.routes.iter();
        let matches = routes.map(|route| route.r#match.as_ref().unwrap());
        matches.map(|found| found.headers.len()).sum::<usize>()
    };
    let mut own = table(&["b.example"], &[]);
    let routes = &mut own.virtual_hosts[0].routes;
    *routes = vec![routes[0].clone(); 3];
    let [host] = &rendered(&own)[..] else {
        panic!("the spelling with a dot needs no virtual host without a wildcard")
    };
    assert_eq!(host.routes.len(), 4);
    assert_eq!(conditions(host), 1);
    // with a route for all host names, nothing differs by port
    let routes = &mut own.virtual_hosts[0].routes;
    *routes = vec![table(&["b.example"], &[]).virtual_hosts[0].routes[1].clone()];
    let [host] = &rendered(&own)[..] else {
        panic!("both spellings share a virtual host")
    };
    assert_eq!(host.domains, ["b.example", "b.example."]);
    assert_eq!(conditions(host), 0);
}
