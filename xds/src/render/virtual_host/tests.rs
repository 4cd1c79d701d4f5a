//! What Envoy does with the rendered virtual hosts, compared with what decides: the name selects the hostname, the host
//! name as it was sent is compared with the conditions of its routes.

use std::sync::Arc;

use super::*;
use crate::{
    ir::{Action, Insecure, PathMatch, Route, TableKey, TableScope},
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
        "*" => vec![
            exact("a.example."),
            exact("a.example"),
            exact("c.example:8443"),
            Some(StringMatch::Suffix(".example".to_owned())),
            None,
        ],
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
            origin: ir::Origin::default(),
        }
    };
    ir::RouteTable {
        key: TableKey {
            listener: ir::ListenerKey {
                port: 8080,
                transport: ir::Transport::Tcp,
                address: None,
            },
            scope: TableScope::Cleartext,
        },
        is_selected: false,
        elsewhere: Vec::new(),
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

/// The table with those names apart that can have tables of their own.
fn apart(mut table: ir::RouteTable) -> Vec<ir::RouteTable> {
    table.is_selected = true;
    let hosts = std::mem::take(&mut table.virtual_hosts);
    let names: Vec<Arc<str>> = hosts.iter().map(|host| host.domain.clone()).collect();
    let has_port = |name: &str| {
        names
            .iter()
            .any(|other| split_port(other) == (name, Some("8443")))
    };
    let mut tables = Vec::new();
    for host in hosts {
        let name = host.domain.clone();
        if name.contains(['*', ':']) || has_port(&name) {
            table.virtual_hosts.push(host);
            continue;
        }
        table.elsewhere.push(name.clone());
        tables.push(ir::RouteTable {
            key: TableKey {
                scope: TableScope::Host(name),
                ..table.key.clone()
            },
            virtual_hosts: vec![host],
            elsewhere: Vec::new(),
            ..table.clone()
        });
    }
    tables.push(table);
    tables
}

/// The same, where names that have tables of their own share one instead.
fn shared(tables: &[ir::RouteTable]) -> Vec<ir::RouteTable> {
    let (own, others): (Vec<_>, Vec<_>) = tables
        .iter()
        .partition(|table| matches!(table.key.scope, TableScope::Host(_)));
    let Some(first) = own.first() else {
        return others.into_iter().cloned().collect();
    };
    let hosts = own.iter().flat_map(|table| table.virtual_hosts.clone());
    let all = ir::RouteTable {
        key: TableKey {
            scope: TableScope::Redirects(0),
            ..first.key.clone()
        },
        virtual_hosts: hosts.collect(),
        ..(*first).clone()
    };
    [all]
        .into_iter()
        .chain(others.into_iter().cloned())
        .collect()
}

/// What Envoy answers with several tables; see [`crate::render::scope`].
fn answered_by_one(tables: &[(String, Vec<pb::VirtualHost>)], authority: &str) -> String {
    let lower = authority.to_ascii_lowercase();
    let name = lower.rsplit_once(':').map_or(&*lower, |(name, _)| name);
    let name = name.strip_suffix('.').unwrap_or(name);
    let found = |host: &str| {
        let key = format!("tcp-8080/cleartext/{host}");
        tables.iter().find(|(of, _)| *of == key)
    };
    let table = found(authority).or_else(|| found(name));
    answered(&table.unwrap_or(&tables[tables.len() - 1]).1, authority)
}

#[test]
fn tables_by_host_answer_as_one_table_does() {
    for chosen in 0..1_u32 << HOSTNAMES.len() {
        let places = (0..HOSTNAMES.len()).filter(|place| chosen & (1 << place) != 0);
        let mut hostnames: Vec<&str> = places.map(|place| HOSTNAMES[place]).collect();
        hostnames.sort_unstable();
        let one = table(&hostnames, &[]);
        let own = apart(one.clone());
        let shared = shared(&own);
        let rendered_with_names = |table: &ir::RouteTable| {
            let names = match table.key.scope {
                TableScope::Redirects(_) => table.selections(),
                _ => vec![table.key.clone()],
            };
            let hosts = rendered(table);
            let names = names.into_iter();
            names.map(move |name| (name.to_string(), hosts.clone()))
        };
        let shared: Vec<_> = shared.iter().flat_map(rendered_with_names).collect();
        let tables: Vec<_> = own
            .iter()
            .map(|table| (table.key.to_string(), rendered(table)))
            .collect();
        let one = rendered(&one);
        for (tables, request) in REQUESTS
            .iter()
            .flat_map(|request| [(&tables, request), (&shared, request)])
        {
            assert_eq!(
                answered_by_one(tables, request),
                answered(&one, request),
                "{request} with {hostnames:?}: {tables:#?}"
            );
        }
        let others = &tables[tables.len() - 1].0;
        let selected = tables.iter().chain(&shared);
        for (key, hosts) in selected.filter(|(key, _)| key != others) {
            let ends = hosts.iter().map(|host| host.routes.last().unwrap());
            let paths = ends.map(|route| route.r#match.as_ref().unwrap());
            let all = |found: &pb::RouteMatch| found.headers.is_empty();
            assert!(paths.clone().count() > 0 && paths.clone().all(all), "{key}");
        }
    }
}

/// A request without a route counts as one without a table, which is looked for elsewhere.
#[test]
fn a_table_that_is_selected_answers_everything() {
    let name: Arc<str> = "b.example".into();
    for scope in [
        TableScope::Host(name.clone()),
        TableScope::Redirects(0),
        TableScope::Tls(name.clone()),
    ] {
        let mut own = table(&[&name], &[]);
        own.key.scope = scope;
        own.is_selected = true;
        own.virtual_hosts[0].routes.clear();
        let hosts = rendered(&own);
        let of_tls = matches!(own.key.scope, TableScope::Tls(_));
        let mut domains = hosts.iter().flat_map(|host| &host.domains);
        assert_eq!(domains.any(|domain| domain == "*"), of_tls, "{hosts:#?}");
        for host in &hosts {
            let last = host.routes.last().expect("a route");
            let found = last.r#match.as_ref().unwrap();
            assert!(found.headers.is_empty(), "{hosts:#?}");
            assert!(last.name.is_empty(), "{hosts:#?}");
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

#[test]
fn a_wildcard_does_not_repeat_the_routes_of_names_with_a_virtual_host() {
    let exact = |name: &str| StringMatch::Exact(name.to_owned());
    let suffix = |end: &str| StringMatch::Suffix(end.to_owned());
    let conditions = [
        (exact("a.example"), false),
        (exact("a.example:8443"), false),
        (exact("b.wild.example"), false),
        (exact("other.example"), true),
        (suffix(".wild.example"), false),
        (suffix(".very.wild.example"), false),
        (suffix(".example"), true),
        (StringMatch::Regex("a.example".to_owned()), true),
    ];
    let mut table = table(&["*", "*.wild.example", "a.example"], &[]);
    let route = table.virtual_hosts[0].routes[0].clone();
    let routes = conditions.iter().map(|(condition, _)| {
        let mut route = Route::new(
            format!("{condition:?}"),
            route.path.clone(),
            Action::Unavailable,
        );
        route.authority = Some(condition.clone());
        Arc::new(route)
    });
    table.virtual_hosts[0].routes = routes.collect();
    let rendered = rendered(&table);
    let all = rendered.iter().find(|host| host.domains == ["*"]).unwrap();
    let found: Vec<&str> = all.routes.iter().map(|route| &*route.name).collect();
    let expected = conditions.iter().filter(|(_, stays)| *stays);
    let expected: Vec<String> = expected
        .map(|(condition, _)| format!("{condition:?}"))
        .collect();
    assert_eq!(found, expected);
}
