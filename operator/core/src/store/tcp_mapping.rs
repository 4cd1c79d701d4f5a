//! Level of TCPMappings: their clusters, and how those of one port and server name share its connections.

use std::{mem, sync::Arc};

use nuncio_ir::{ServerTls, TcpProxy};

use super::Store;
use crate::{
    object::ObjectRef,
    reconcile::TcpMapping,
    report::{Problem, Reason},
};

/// A TCPMapping with what its upstream has become.
#[derive(Debug, Default)]
pub(super) struct TcpState {
    /// `None`: gone, but not yet unlinked.
    pub(super) mapping: Option<Arc<TcpMapping>>,
    pub(super) cluster: Option<Arc<str>>,
    pub(super) problems: Vec<Problem>,
}

/// The TCPMappings of one port and server name, as a socket sees them.
pub(super) struct TcpGroup<'a> {
    /// `None`: every connection.
    pub(super) server_name: Option<Arc<str>>,
    pub(super) members: Vec<Member<'a>>,
    /// Termination of TLS, where there is a server name, or why there is none.
    pub(super) tls: Option<Result<ServerTls, String>>,
}

pub(super) struct Member<'a> {
    pub(super) object: &'a ObjectRef,
    pub(super) mapping: &'a TcpMapping,
    pub(super) cluster: Arc<str>,
}

impl TcpGroup<'_> {
    /// The proxy of the group; `None` if no member gets any connection. The idle timeout is that of the last that has
    /// one, as it is with the settings that Mappings share.
    pub(super) fn proxy(&self) -> Option<TcpProxy> {
        let weights: Vec<Option<u32>> = self
            .members
            .iter()
            .map(|member| member.mapping.weight)
            .collect();
        let shares = shares(&weights);
        let clusters: Vec<(Arc<str>, u32)> = self
            .members
            .iter()
            .zip(shares)
            .filter(|(_, share)| *share > 0)
            .map(|(member, share)| (member.cluster.clone(), share))
            .collect();
        let idle_timeout = self
            .members
            .iter()
            .filter_map(|member| member.mapping.idle_timeout)
            .next_back();
        (!clusters.is_empty()).then_some(TcpProxy {
            clusters,
            idle_timeout,
        })
    }
}

/// Shares in hundredths of a percent: a weight is a percentage, and what they leave of a hundred is shared by those
/// without. There is nothing else to go to, so weights that add up to another sum are shares in proportion.
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

impl Store {
    pub(super) fn set_tcp_mapping(&mut self, object: &ObjectRef, mapping: Option<Arc<TcpMapping>>) {
        let old = self
            .tcp_mappings
            .get(object)
            .and_then(|state| state.mapping.clone());
        if let Some(old) = old {
            if let Some(socket) = self.sockets.get_mut(&old.key)
                && let Some(members) = socket.tcp.get_mut(&old.server_name)
            {
                members.remove(object);
                if members.is_empty() {
                    socket.tcp.remove(&old.server_name);
                }
            }
            self.dirty.sockets.insert(old.key);
            self.unfile_upstream(object, &old.upstream);
        }
        if let Some(mapping) = &mapping {
            let socket = self.sockets.entry(mapping.key).or_default();
            let members = socket.tcp.entry(mapping.server_name.clone()).or_default();
            members.insert(object.clone());
            self.dirty.sockets.insert(mapping.key);
            self.file_upstream(object, &mapping.upstream);
        }
        self.tcp_mappings.entry(object.clone()).or_default().mapping = mapping;
        self.dirty.tcp_mappings.insert(object.clone());
    }

    pub(super) fn link_tcp_mappings(&mut self) {
        for object in mem::take(&mut self.dirty.tcp_mappings) {
            self.dirty.reports.insert(object.clone());
            let Some(state) = self.tcp_mappings.get(&object) else {
                continue;
            };
            let old = state.cluster.clone();
            let Some(mapping) = state.mapping.clone() else {
                self.release_cluster(&object, old.as_ref());
                self.tcp_mappings.remove(&object);
                continue;
            };
            let (cluster, problems) = self.link_upstream(&object, &mapping.upstream, old.as_ref());
            if old.as_ref() != Some(&cluster) {
                self.dirty.sockets.insert(mapping.key);
            }
            let state = TcpState {
                mapping: Some(mapping),
                cluster: Some(cluster),
                problems,
            };
            self.tcp_mappings.insert(object, state);
        }
    }

    /// The TCPMappings of a socket, by server name.
    pub(super) fn tcp_groups(&self, socket: &super::Socket) -> Vec<TcpGroup<'_>> {
        let member = |object: &ObjectRef| {
            let (object, state) = self.tcp_mappings.get_key_value(object)?;
            Some(Member {
                object,
                mapping: state.mapping.as_deref()?,
                cluster: state.cluster.clone()?,
            })
        };
        socket
            .tcp
            .iter()
            .map(|(server_name, members)| TcpGroup {
                server_name: server_name.clone(),
                members: members.iter().filter_map(member).collect(),
                tls: server_name.as_deref().map(|name| self.termination(name)),
            })
            .collect()
    }

    /// How TLS for a server name is ended: as the Host of that very name does it, or one with a wildcard, or a
    /// TLSContext that lists the name.
    fn termination(&self, name: &str) -> Result<ServerTls, String> {
        let of_host = |host: &ObjectRef| self.hosts.get(host)?.tls.clone()?.ok();
        let mut same = self.hosts_by_name.get(name);
        if let Some(tls) = same.find_map(of_host) {
            return Ok(tls);
        }
        let mut listing = self
            .contexts
            .values()
            .filter(|state| state.context.hosts.iter().any(|host| &**host == name));
        let mut flaw = None;
        if let Some(tls) = listing.find_map(|state| match state.own_server() {
            Ok(tls) => Some(tls),
            Err(reason) => {
                flaw.get_or_insert(reason);
                None
            }
        }) {
            return Ok(tls);
        }
        let mut wild = self.hosts_by_name.wild(name).rev();
        wild.find_map(of_host).ok_or_else(|| match flaw {
            Some(flaw) => format!("the TLSContext for {name:?} cannot be used: {flaw}"),
            None => format!("neither a Host with TLS nor a TLSContext is for {name:?}"),
        })
    }

    pub(super) fn report_tcp_mapping(
        &self,
        object: &ObjectRef,
        report: &mut crate::report::Report,
    ) {
        let Some(state) = self.tcp_mappings.get(object) else {
            return;
        };
        report.problems.extend(state.problems.iter().cloned());
        let Some(mapping) = &state.mapping else {
            return;
        };
        let Some(socket) = self.sockets.get(&mapping.key) else {
            return;
        };
        let said = socket.link.problems.get(object).into_iter().flatten();
        report.problems.extend(said.cloned());
        report.in_service = socket.link.tcp_mappings.contains(object);
        if report.in_service {
            report.summary = format!("on {}", mapping.key);
        } else if report.is_clean() {
            report.problems.push(Problem::notice(
                Reason::NO_SHARE,
                "spec.weight".to_owned(),
                "it gets no connections: others have all of the weight".to_owned(),
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
