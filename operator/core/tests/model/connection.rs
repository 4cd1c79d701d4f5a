//! Shares of TCP connections (mappings page, 14; decisions 1 and 14), for TCPMappings without `host`.

use super::{
    expected,
    group::shares,
    input::{Input, TcpMapping},
};

/// A port, and the address unless it is the default one.
pub(crate) type Socket = (u16, Option<&'static str>);

/// TCPMappings by socket, each with the percentage of the connections that it gets, if any.
pub(crate) fn connections(input: &Input) -> Vec<(Socket, Vec<(usize, u32)>)> {
    let all = expected::in_order(&input.tcp_mappings, |mapping| &mapping.meta);
    let mut groups: Vec<(_, Vec<&TcpMapping>)> = Vec::new();
    for mapping in all {
        // the default address is no other socket
        let socket = (
            mapping.port,
            mapping.address.filter(|address| *address != "0.0.0.0"),
        );
        match groups.iter_mut().find(|(other, _)| *other == socket) {
            Some((_, members)) => members.push(mapping),
            None => groups.push((socket, vec![mapping])),
        }
    }
    groups
        .into_iter()
        .map(|(socket, members)| (socket, percentages(&members)))
        .filter(|(_, shares)| !shares.is_empty())
        .collect()
}

fn percentages(members: &[&TcpMapping]) -> Vec<(usize, u32)> {
    let weights: Vec<_> = members.iter().map(|mapping| mapping.weight).collect();
    let mut before = 0;
    let mut percentages = Vec::new();
    for (place, below) in shares(&weights) {
        if below > before {
            percentages.push((members[place].number, below - before));
            before = below;
        }
    }
    percentages
}

/// Whether these weights are those shares.
pub(crate) fn is_in_proportion(shares: &[(usize, u32)], weights: &[(usize, u32)]) -> bool {
    let sum = |all: &[(usize, u32)]| all.iter().map(|(_, weight)| weight).sum::<u32>();
    let (all_shares, all_weights) = (sum(shares), sum(weights));
    let is_same = |(number, share): &(usize, u32)| {
        // a percentage is rounded
        weights.iter().any(|(other, weight)| {
            let difference = (share * all_weights).abs_diff(weight * all_shares);
            number == other && difference <= all_weights
        })
    };
    shares.len() == weights.len() && shares.iter().all(is_same)
}
