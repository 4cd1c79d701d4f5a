//! Random inputs and requests, from few values, so that they meet.

use std::collections::{BTreeMap, BTreeSet};

use proptest::{
    array,
    collection::{btree_map, vec},
    option,
    prelude::{Just, Strategy, any},
    prop_oneof,
    sample::select,
};

use super::{
    input::{
        Condition, Expression, Host, Input, Insecure, Labels, Listener, Mapping, Meta, Mistake,
        Operator, SecurityModel, Selector, TcpMapping,
    },
    table::Request,
};

const NAMES: [&str; 7] = ["api", "api-canary", "api.x", "api2", "b", "b-1", "c"];
const NAMESPACES: [&str; 3] = ["default", "default-2", "other"];
const HOSTNAMES: [&str; 9] = [
    "*",
    "a.example",
    "b.example",
    "x.a.example",
    "*.example",
    "*.a.example",
    "a.*",
    "x.*",
    "other.test",
];
/// Hostnames of Hosts only: with a port, and fully qualified.
const HOSTNAMES_OF_HOSTS: [&str; 3] = ["a.example:8080", "*.example:8080", "b.example."];
const HOST_PATTERNS: [&str; 4] = [
    "a.example",
    "[ab]\\.example",
    ".*\\.example(:[0-9]+)?",
    "x.*",
];
const PATHS: [&str; 10] = [
    "/",
    "/a",
    "/a/",
    "/A/",
    "/b/",
    "/a/b",
    "/.*",
    "/a.*",
    "/[ab]/",
    "/.well-known/acme-challenge/",
];
const VALUES: [&str; 5] = ["b", "a-b", "v1", "v2", "v[12]"];

/// A configuration and requests to it.
pub(crate) fn case() -> impl Strategy<Value = (Input, Vec<Request>)> {
    (input(), vec(request(), 40))
}

fn input() -> impl Strategy<Value = Input> {
    let mappings = (conditions(), vec(mapping(), 0..12));
    let mappings = mappings.prop_map(|(conditions, mappings)| {
        let number_of = conditions.len();
        let mut mappings: Vec<Mapping> = mappings
            .into_iter()
            .map(|(index, mut mapping)| {
                mapping.condition = conditions[index % number_of].clone();
                mapping
            })
            .collect();
        keep_names_apart(&mut mappings, |mapping| &mapping.meta);
        for (place, mapping) in mappings.iter_mut().enumerate() {
            mapping.number = place + 1;
        }
        mappings
    });
    let tcp_mappings = vec(tcp_mapping(), 0..5).prop_map(|mut mappings| {
        keep_names_apart(&mut mappings, |mapping| &mapping.meta);
        for (place, mapping) in mappings.iter_mut().enumerate() {
            mapping.number = place + 101;
        }
        mappings
    });
    let listeners = vec(listener(), 1..5).prop_map(|mut listeners| {
        keep_names_apart(&mut listeners, |listener| &listener.meta);
        listeners
    });
    let hosts = vec(host(), 0..5).prop_map(|mut hosts| {
        keep_names_apart(&mut hosts, |host| &host.meta);
        hosts
    });
    let loose = prop_oneof![3 => Just(false), 1 => Just(true)];
    (listeners, hosts, mappings, tcp_mappings, loose).prop_map(
        |(listeners, hosts, mappings, tcp_mappings, loose)| Input {
            listeners,
            hosts,
            mappings,
            tcp_mappings,
            loose,
        },
    )
}

/// Two objects with one name are one object.
fn keep_names_apart<T>(all: &mut Vec<T>, meta: impl Fn(&T) -> &Meta) {
    let mut keys = BTreeSet::new();
    all.retain(|object| keys.insert((meta(object).name, meta(object).namespace)));
}

fn meta() -> impl Strategy<Value = Meta> {
    let labels = btree_map(select(&["x", "y"][..]), select(&["1", "2"][..]), 0..3);
    (select(&NAMES[..]), select(&NAMESPACES[..]), labels).prop_map(|(name, namespace, labels)| {
        Meta {
            name,
            namespace,
            labels,
        }
    })
}

fn listener() -> impl Strategy<Value = Listener> {
    let model = select(
        &[
            SecurityModel::Xfp,
            SecurityModel::Secure,
            SecurityModel::Insecure,
        ][..],
    );
    let all_namespaces = prop_oneof![4 => Just(true), 1 => Just(false)];
    let selector = option::weighted(0.1, select(&[("x", "1"), ("y", "2")][..]));
    (meta(), 0..3_u32, model, all_namespaces, selector).prop_map(
        |(meta, created, model, all_namespaces, selector)| Listener {
            meta,
            created,
            model,
            all_namespaces,
            selector,
        },
    )
}

fn host() -> impl Strategy<Value = Host> {
    let hostname = prop_oneof![
        8 => select(&HOSTNAMES[..]),
        1 => select(&HOSTNAMES_OF_HOSTS[..]),
    ];
    let hostname = option::weighted(0.8, hostname);
    let insecure = prop_oneof![
        5 => Just(Insecure::Route),
        1 => Just(Insecure::Redirect),
        1 => Just(Insecure::Reject),
    ];
    (
        meta(),
        hostname,
        option::weighted(0.4, selector()),
        any::<bool>(),
        insecure,
    )
        .prop_map(|(meta, hostname, selector, deprecated, insecure)| Host {
            meta,
            hostname,
            selector,
            deprecated,
            insecure,
        })
}

fn selector() -> impl Strategy<Value = Selector> {
    let labels = btree_map(select(&["x", "y"][..]), select(&["1", "2"][..]), 0..3);
    let operator = select(
        &[
            Operator::In,
            Operator::NotIn,
            Operator::Exists,
            Operator::DoesNotExist,
        ][..],
    );
    let expression = (select(&["x", "y"][..]), operator, select(&["1", "2"][..])).prop_map(
        |(key, operator, value)| Expression {
            key,
            operator,
            values: match operator {
                Operator::In | Operator::NotIn => vec![value],
                Operator::Exists | Operator::DoesNotExist => Vec::new(),
            },
        },
    );
    let expressions = prop_oneof![2 => Just(Vec::new()), 1 => vec(expression, 1..3)];
    (labels, expressions)
        .prop_filter(
            "a selector that selects by nothing is none",
            |(labels, expressions)| !labels.is_empty() || !expressions.is_empty(),
        )
        .prop_map(|(labels, expressions)| Selector {
            labels,
            expressions,
        })
}

/// Which of the hostname fields are set: `hostname`, `host`, `host_regex`, `:authority`.
type HostFields = (
    Option<&'static str>,
    Option<&'static str>,
    bool,
    Option<&'static str>,
);

fn host_fields() -> impl Strategy<Value = HostFields> {
    let exact = select(&["a.example", "b.example", "x.a.example"][..]);
    prop_oneof![
        6 => Just((Some("*"), None, false, None)),
        6 => select(&HOSTNAMES[..]).prop_map(|name| (Some(name), None, false, None)),
        1 => Just((Some("a.example:8080"), None, false, None)),
        2 => exact.clone().prop_map(|name| (None, Some(name), false, None)),
        4 => select(&HOST_PATTERNS[..]).prop_map(|pattern| (None, Some(pattern), true, None)),
        2 => exact.clone().prop_map(|name| (None, None, false, Some(name))),
        4 => Just((None, None, false, None)),
        // the stronger field holds
        1 => (select(&HOSTNAMES[..]), exact).prop_map(|(hostname, name)| (Some(hostname), Some(name), true, Some(name))),
    ]
}

fn condition() -> impl Strategy<Value = Condition> {
    let path = (
        select(&PATHS[..]),
        select(
            &[
                (false, false),
                (false, false),
                (true, false),
                (false, true),
                (true, true),
            ][..],
        ),
    );
    let method = option::weighted(0.2, (select(&["GET", "PUT", "GET|PUT"][..]), any::<bool>()));
    let headers = (few(&["x", "x-a"], 0.25), few(&["x", "x-a"], 0.15));
    let query = (few(&["q", "r"], 0.15), few(&["q", "r"], 0.1));
    let precedence = option::weighted(0.15, -1..3_i64);
    (path, host_fields(), method, headers, query, precedence).prop_map(
        |((prefix, (exact, regex)), host, method, headers, query, precedence)| Condition {
            hostname: host.0,
            host: host.1,
            host_regex: host.2,
            authority: host.3,
            prefix,
            prefix_exact: exact,
            prefix_regex: regex,
            method: method.map(|(method, _)| method),
            method_regex: method.is_some_and(|(_, is_regex)| is_regex),
            headers: headers.0,
            regex_headers: headers.1,
            query: query.0,
            regex_query: query.1,
            precedence,
        },
    )
}

/// Conditions that resemble the first one.
fn conditions() -> impl Strategy<Value = Vec<Condition>> {
    let others = vec((condition(), array::uniform10(any::<bool>())), 0..5);
    (condition(), others, 0..8_u32).prop_map(|(mut first, others, tie)| {
        let mut all = Vec::new();
        if tie == 0 {
            // both have the same place in the order, as both headers are `x-a-b` there
            first.headers = [("x-a", "b")].into();
            first.regex_headers.clear();
            let (mut other, mut kind) = (first.clone(), first.clone());
            other.headers = [("x", "a-b")].into();
            (kind.prefix_exact, kind.prefix_regex) = (!first.prefix_exact, false);
            all.extend([other, kind]);
        }
        for (other, fields) in others {
            all.push(resembling(&first, other, fields));
        }
        all.push(first);
        all
    })
}

/// The other condition, with these fields of the first, or with exact texts for patterns and patterns for exact texts.
fn resembling(first: &Condition, mut other: Condition, fields: [bool; 10]) -> Condition {
    let [
        prefix,
        kind,
        host,
        method,
        headers,
        query,
        precedence,
        swap_a,
        swap_b,
        swap_c,
    ] = fields;
    if prefix {
        other.prefix = first.prefix;
    }
    if kind {
        (other.prefix_exact, other.prefix_regex) = (first.prefix_exact, first.prefix_regex);
    }
    if host {
        (other.hostname, other.host) = (first.hostname, first.host);
        (other.host_regex, other.authority) = (first.host_regex, first.authority);
    }
    if method {
        (other.method, other.method_regex) = (first.method, first.method_regex);
    }
    if headers {
        other.headers = first.headers.clone();
        other.regex_headers = first.regex_headers.clone();
    }
    if query {
        other.query = first.query.clone();
        other.regex_query = first.regex_query.clone();
    }
    if precedence {
        other.precedence = first.precedence;
    }
    if swap_a && swap_b {
        other.method_regex = !other.method_regex;
    }
    if swap_b && swap_c {
        std::mem::swap(&mut other.headers, &mut other.regex_headers);
    }
    if swap_a && swap_c {
        std::mem::swap(&mut other.query, &mut other.regex_query);
    }
    other
}

/// Some of these names, each with a value.
fn few(names: &'static [&'static str], often: f64) -> impl Strategy<Value = Labels> {
    let some = btree_map(select(names), select(&VALUES[..]), 1..3);
    option::weighted(often, some).prop_map(Option::unwrap_or_default)
}

/// A Mapping whose condition is one of several, chosen by the number.
fn mapping() -> impl Strategy<Value = (usize, Mapping)> {
    let case_sensitive = prop_oneof![
        4 => Just(None),
        1 => Just(Some(true)),
        1 => Just(Some(false)),
    ];
    let weight = prop_oneof![
        3 => Just(None),
        2 => select(&[0, 10, 20, 33, 50, 75, 100][..]).prop_map(Some),
    ];
    let role = prop_oneof![
        8 => Just((false, false)),
        1 => Just((true, false)),
        1 => Just((false, true)),
        1 => Just((true, true)),
    ];
    let mistake = prop_oneof![
        12 => Just(None),
        1 => Just(Some(Mistake::Resolver)),
        1 => Just(Some(Mistake::Scheme)),
        1 => Just(Some(Mistake::Type)),
        1 => Just(Some(Mistake::Rewrite)),
        1 => Just(Some(Mistake::Header)),
        1 => Just(Some(Mistake::Hostname)),
    ];
    let ours = prop_oneof![15 => Just(true), 1 => Just(false)];
    (
        0..12_usize,
        meta(),
        case_sensitive,
        weight,
        role,
        mistake,
        ours,
    )
        .prop_map(
            |(index, meta, case_sensitive, weight, (redirect, shadow), mistake, ours)| {
                let is_ordinary = !redirect && !shadow;
                let mapping = Mapping {
                    meta,
                    number: 0,
                    ours,
                    condition: nothing(),
                    case_sensitive,
                    // a shadow's weight is how many requests are copied
                    weight: weight.filter(|_| !shadow),
                    redirect,
                    shadow,
                    // some mistakes are in fields that others do not use
                    mistake: mistake.filter(|mistake| {
                        is_ordinary || mistake.is_in_match() || *mistake == Mistake::Type
                    }),
                };
                (index, mapping)
            },
        )
}

/// Replaced by one of the conditions.
fn nothing() -> Condition {
    Condition {
        hostname: None,
        host: None,
        host_regex: false,
        authority: None,
        prefix: "/",
        prefix_exact: false,
        prefix_regex: false,
        method: None,
        method_regex: false,
        headers: BTreeMap::new(),
        regex_headers: BTreeMap::new(),
        query: BTreeMap::new(),
        regex_query: BTreeMap::new(),
        precedence: None,
    }
}

fn tcp_mapping() -> impl Strategy<Value = TcpMapping> {
    let address = select(&[None, None, Some("0.0.0.0"), Some("127.0.0.1")][..]);
    let weight = option::of(select(&[0, 10, 20, 50, 100][..]));
    (meta(), select(&[5432, 5433][..]), address, weight).prop_map(
        |(meta, port, address, weight)| TcpMapping {
            meta,
            number: 0,
            port,
            address,
            weight,
        },
    )
}

fn request() -> impl Strategy<Value = Request> {
    let authority = select(
        &[
            "a.example",
            "a.example",
            "a.example:8080",
            "a.example:80",
            "A.Example",
            "a.example.",
            "a.example.:8080",
            "b.example",
            "b.example:8080",
            "x.a.example",
            "c.example",
            "c.example.:8080",
            "a.test",
            "x.test",
            "other.test",
        ][..],
    );
    let path = select(
        &[
            "/",
            "/a",
            "/a/",
            "/A/",
            "/b/",
            "/a/b",
            "/a/b/c",
            "/.*",
            "/.well-known/acme-challenge/token",
        ][..],
    );
    let method = select(&["GET", "GET", "PUT", "POST"][..]);
    let pairs = |names: [&'static str; 2]| {
        let some = btree_map(select(names.to_vec()), select(&VALUES[..]), 0..3);
        some.prop_map(|pairs| pairs.into_iter().collect())
    };
    (
        authority,
        path,
        method,
        pairs(["x", "x-a"]),
        pairs(["q", "r"]),
        0..100_u32,
    )
        .prop_map(
            |(authority, path, method, headers, query, random)| Request {
                authority,
                path,
                method,
                headers,
                query,
                random,
            },
        )
}
