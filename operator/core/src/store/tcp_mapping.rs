//! Level of TCPMappings: their clusters, and how those of one port and server name share its connections.

use std::{collections::BTreeMap, mem, sync::Arc};

use nuncio_ir::{ServerTls, TcpProxy, TcpTarget};

use super::{Store, listener::Socket};
use crate::{
    object::ObjectRef,
    reconcile::{Resolver, TcpMapping},
    report::{Problem, Reason, Report},
};

/// TCPMappings with what they are linked to.
#[derive(Debug, Default)]
pub(super) struct TcpMappings {
    states: BTreeMap<ObjectRef, TcpMappingState>,
}

/// A TCPMapping with its cluster.
#[derive(Debug, Default)]
struct TcpMappingState {
    /// `None`: deleted, but still linked.
    mapping: Option<Arc<TcpMapping>>,
    cluster: Option<Arc<str>>,
    problems: Vec<Problem>,
}

/// The TCPMappings of one port and server name.
pub(super) struct TcpGroup<'a> {
    /// `None`: every connection.
    pub(super) server_name: Option<Arc<str>>,
    pub(super) members: Vec<Member<'a>>,
    /// TLS termination, if there is a server name, or why it cannot be terminated.
    pub(super) tls: Option<Result<Arc<ServerTls>, String>>,
}

pub(super) struct Member<'a> {
    pub(super) object: &'a ObjectRef,
    pub(super) mapping: &'a TcpMapping,
    pub(super) cluster: Arc<str>,
}

impl TcpGroup<'_> {
    /// The proxy of the group; `None` if no member gets connections. The idle timeout is that of the last member with
    /// one, as with the settings that Mappings share.
    pub(super) fn proxy(&self) -> Option<TcpProxy> {
        let weights: Vec<Option<u32>> = self
            .members
            .iter()
            .map(|member| member.mapping.weight)
            .collect();
        let shares = shares(&weights);
        let targets: Vec<TcpTarget> = self
            .members
            .iter()
            .zip(shares)
            .filter(|(_, share)| *share > 0)
            .map(|(member, weight)| TcpTarget {
                cluster: member.cluster.clone(),
                weight,
                origin: member.object.origin(),
            })
            .collect();
        let idle_timeout = self
            .members
            .iter()
            .filter_map(|member| member.mapping.idle_timeout)
            .next_back();
        (!targets.is_empty()).then_some(TcpProxy {
            targets,
            idle_timeout,
        })
    }
}

/// Shares in hundredths of a percent: a weight is a percentage, and members without one share the rest of a hundred.
/// There is no other destination, so weights with another sum are shares in proportion.
fn shares(weights: &[Option<u32>]) -> Vec<u32> {
    const MOST: u32 = 1_000_000;
    if let [_] = weights {
        return vec![10_000];
    }
    let sum: u64 = weights
        .iter()
        .flatten()
        .map(|weight| u64::from((*weight).min(MOST)))
        .sum();
    let without = weights.iter().filter(|weight| weight.is_none()).count() as u64;
    let rest = 10_000_u64
        .saturating_sub(sum * 100)
        .checked_div(without)
        .unwrap_or(0);
    let rest = u32::try_from(rest).unwrap_or(0);
    weights
        .iter()
        .map(|weight| weight.map_or(rest, |weight| weight.min(MOST) * 100))
        .collect()
}

impl TcpMappings {
    /// All TCPMappings.
    pub(super) fn objects(&self) -> impl Iterator<Item = &ObjectRef> {
        self.states.keys()
    }

    /// The TCPMappings whose upstream has the default resolver.
    pub(super) fn with_default_resolver(&self) -> impl Iterator<Item = &ObjectRef> {
        let has_default = |state: &TcpMappingState| {
            let mapping = state.mapping.as_ref();
            mapping.is_some_and(|mapping| mapping.upstream.resolver == Resolver::Default)
        };
        let states = self.states.iter();
        states
            .filter(move |(_, state)| has_default(state))
            .map(|(object, _)| object)
    }
}

impl Store {
    pub(super) fn set_tcp_mapping(&mut self, object: &ObjectRef, mapping: Option<Arc<TcpMapping>>) {
        let state = self.tcp_mappings.states.entry(object.clone()).or_default();
        if let Some(old) = mem::replace(&mut state.mapping, mapping.clone()) {
            self.listeners.remove_tcp_mapping(object, &old);
            self.dirty.sockets.insert(old.key);
            self.forget_references(object, &old.upstream);
        }
        if let Some(mapping) = mapping {
            self.listeners.add_tcp_mapping(object, &mapping);
            self.dirty.sockets.insert(mapping.key);
            self.note_references(object, &mapping.upstream);
        }
        self.dirty.tcp_mappings.insert(object.clone());
    }

    pub(super) fn link_tcp_mappings(&mut self) {
        for object in mem::take(&mut self.dirty.tcp_mappings) {
            self.dirty.reports.insert(object.clone());
            let Some(state) = self.tcp_mappings.states.get(&object) else {
                continue;
            };
            let old = state.cluster.clone();
            let Some(mapping) = state.mapping.clone() else {
                self.release_cluster(&object, old.as_ref());
                self.tcp_mappings.states.remove(&object);
                continue;
            };
            let (cluster, problems) =
                self.link_upstream(&object, &mapping.upstream, old.as_ref(), true);
            if old != cluster {
                self.dirty.sockets.insert(mapping.key);
            }
            let state = TcpMappingState {
                mapping: Some(mapping),
                cluster,
                problems,
            };
            self.tcp_mappings.states.insert(object, state);
        }
    }

    /// The TCPMappings of a socket, by server name.
    pub(super) fn tcp_groups(&self, socket: &Socket) -> Vec<TcpGroup<'_>> {
        let member = |object: &ObjectRef| {
            let (object, state) = self.tcp_mappings.states.get_key_value(object)?;
            Some(Member {
                object,
                mapping: state.mapping.as_deref()?,
                cluster: state.cluster.clone()?,
            })
        };
        socket
            .tcp_mappings()
            .map(|(server_name, members)| TcpGroup {
                server_name: server_name.clone(),
                members: members.iter().filter_map(member).collect(),
                tls: server_name.as_deref().map(|name| self.termination(name)),
            })
            .collect()
    }

    /// TLS termination for a server name: that of the Host with exactly this name, else of a TLSContext that lists the
    /// name, else of a Host with a wildcard.
    fn termination(&self, name: &str) -> Result<Arc<ServerTls>, String> {
        let (exact, wild) = self.hosts.termination(name);
        if let Some(tls) = exact {
            return Ok(tls);
        }
        let mut invalid = None;
        for context in self.tls_contexts.listing(name) {
            match context.own_server() {
                Ok(tls) => return Ok(tls.into()),
                Err(reason) => {
                    invalid.get_or_insert(reason);
                }
            }
        }
        wild.ok_or_else(|| match invalid {
            Some(reason) => format!("the TLSContext for {name:?} cannot be used: {reason}"),
            None => format!("no Host with TLS and no TLSContext for {name:?}"),
        })
    }

    pub(super) fn report_tcp_mapping(&self, object: &ObjectRef, report: &mut Report) {
        let Some(state) = self.tcp_mappings.states.get(object) else {
            return;
        };
        report.problems.extend(state.problems.iter().cloned());
        let Some(mapping) = &state.mapping else {
            return;
        };
        let Some(link) = self.listeners.link(mapping.key) else {
            return;
        };
        let problems = link.problems.get(object).into_iter().flatten();
        report.problems.extend(problems.cloned());
        report.in_service = link.tcp_mappings.contains(object);
        if report.in_service {
            report.summary = format!("on {}", mapping.key);
        } else if report.is_clean() {
            report.problems.push(Problem::notice(
                Reason::NO_SHARE,
                "spec.weight",
                "no connections: other TCPMappings have all of the weight",
            ));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::shares;

    #[test]
    fn weights_are_shares_of_the_connections() {
        assert_eq!(shares(&[None]), [10_000]);
        assert_eq!(shares(&[Some(0)]), [10_000]);
        assert_eq!(shares(&[None, None]), [5000, 5000]);
        assert_eq!(shares(&[Some(10), Some(20), None]), [1000, 2000, 7000]);
        assert_eq!(shares(&[Some(0), None]), [0, 10_000]);
        assert_eq!(shares(&[Some(10), Some(30)]), [1000, 3000]);
        assert_eq!(shares(&[Some(80), Some(120), None]), [8000, 12_000, 0]);
        assert_eq!(shares(&[Some(u32::MAX), Some(0)]), [100_000_000, 0]);
    }
}
