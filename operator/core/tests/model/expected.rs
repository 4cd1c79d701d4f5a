//! The model: what the pages and decisions say of an input, with lists and loops only.

use super::{
    attachment,
    group::{self, Group},
    input::{Host, Input, Insecure, Listener, Mapping, Meta, SecurityModel},
    order,
    table::{Answer, Table},
};

/// A Host that a Listener serves.
pub(crate) struct Served {
    pub(crate) hostname: &'static str,
    pub(crate) insecure: Answer,
    /// In matching order.
    pub(crate) groups: Vec<Group>,
}

/// The Hosts of the port, by hostname.
pub(crate) fn served(input: &Input) -> Vec<Served> {
    let Some(listener) = listener(&input.listeners) else {
        return Vec::new();
    };
    let default = [default_host()];
    let hosts = if input.hosts.is_empty() {
        &default
    } else {
        input.hosts.as_slice()
    };
    let mut all: Vec<Served> = Vec::new();
    for host in in_order(hosts, |host| &host.meta) {
        // of several Hosts with one hostname the first is served (hosts page, 6.10)
        let is_free = all.iter().all(|served| served.hostname != hostname(host));
        if binds(listener, host) && is_free {
            all.push(Served {
                hostname: hostname(host),
                insecure: insecure(listener, host),
                groups: groups(input, host),
            });
        }
    }
    // a Listener without any Host that it serves does not exist (hosts page, 6.6)
    let rejects_all = all.iter().all(|served| served.insecure == Answer::Reject);
    if listener.model == SecurityModel::Insecure && rejects_all {
        return Vec::new();
    }
    all.sort_by_key(|served| served.hostname);
    all
}

/// The routes of the port, by hostname.
pub(crate) fn tables(input: &Input) -> Vec<Table> {
    served(input)
        .iter()
        .map(|served| Table {
            domain: served.hostname.to_owned(),
            insecure: served.insecure,
            entries: served.groups.iter().flat_map(Group::entries).collect(),
        })
        .collect()
}

/// Served where there is no Host: `*`, and nothing is redirected (hosts page, 6.8).
pub(crate) fn default_host() -> Host {
    Host {
        meta: Meta {
            name: "default-host",
            namespace: "default",
            labels: [].into(),
        },
        hostname: None,
        selector: None,
        deprecated: false,
        insecure: Insecure::Route,
    }
}

/// Objects in the order of decision 1.
pub(crate) fn in_order<T>(all: &[T], meta: impl Fn(&T) -> &Meta) -> Vec<&T> {
    let mut sorted: Vec<&T> = all.iter().collect();
    sorted.sort_by_key(|object| meta(object).key());
    sorted
}

/// Without the dot of a fully qualified name, which is the same name (decision 14).
pub(crate) fn hostname(host: &Host) -> &'static str {
    host.hostname.unwrap_or("*").trim_end_matches('.')
}

/// The Listener that keeps the port (decision 18): the first of each namespace claims it, and the oldest of these has it.
fn listener(all: &[Listener]) -> Option<&Listener> {
    let mut claiming: Vec<&Listener> = Vec::new();
    for listener in in_order(all, |listener| &listener.meta) {
        let namespace = listener.meta.namespace;
        if claiming
            .iter()
            .all(|other| other.meta.namespace != namespace)
        {
            claiming.push(listener);
        }
    }
    // of equally old ones the first in order
    claiming.into_iter().min_by_key(|listener| listener.created)
}

/// `hostBinding` (hosts page, 5.6).
fn binds(listener: &Listener, host: &Host) -> bool {
    let namespace = listener.all_namespaces || host.meta.namespace == listener.meta.namespace;
    let labels = listener.selector.is_none_or(|pair| host.meta.has(pair));
    namespace && labels
}

/// No connection here is secure but those of a Listener that says so (hosts page, 5.7).
fn insecure(listener: &Listener, host: &Host) -> Answer {
    match (listener.model, host.insecure) {
        (SecurityModel::Secure, _) | (_, Insecure::Route) => Answer::Route,
        (_, Insecure::Redirect) => Answer::Redirect,
        (_, Insecure::Reject) => Answer::Reject,
    }
}

/// The groups that this Host takes, in matching order. Only the members that it takes count (decision 2).
fn groups(input: &Input, host: &Host) -> Vec<Group> {
    let all: Vec<Mapping> = in_order(&input.mappings, |mapping| &mapping.meta)
        .into_iter()
        .filter(|mapping| mapping.ours)
        .filter(|mapping| mapping.mistake.is_none_or(|mistake| !mistake.is_in_match()))
        // a rejected shadow has no requests that could be kept from other matches (decision 6)
        .filter(|mapping| {
            !mapping.shadow || mapping.mistake.is_none_or(|mistake| !mistake.rejects())
        })
        .cloned()
        .collect();
    let created = group::created(&all);
    let taken = all
        .into_iter()
        .filter(|mapping| attachment::takes(host, mapping, input.loose))
        .collect();
    order::sorted(group::groups(taken), &created)
}
