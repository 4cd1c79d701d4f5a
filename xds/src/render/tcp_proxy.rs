//! `envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy`

use super::access_log;
use crate::{
    ir,
    pb::envoy::extensions::filters::network::tcp_proxy::v3::{
        TcpProxy,
        tcp_proxy::{ClusterSpecifier, WeightedCluster, weighted_cluster::ClusterWeight},
    },
};

/// The TCP proxy of a filter chain.
pub(super) fn tcp_proxy(listener: &ir::Listener, proxy: &ir::TcpProxy) -> TcpProxy {
    let specifier = match proxy.targets.as_slice() {
        [only] => ClusterSpecifier::Cluster(only.cluster.to_string()),
        several => ClusterSpecifier::WeightedClusters(WeightedCluster {
            clusters: several
                .iter()
                .map(|target| ClusterWeight {
                    name: target.cluster.to_string(),
                    weight: target.weight,
                    ..ClusterWeight::default()
                })
                .collect(),
        }),
    };
    TcpProxy {
        stat_prefix: listener.stat_prefix.clone(),
        access_log: listener
            .tcp_access_logs
            .iter()
            .map(access_log::access_log)
            .collect(),
        idle_timeout: proxy.idle_timeout.map(super::duration),
        cluster_specifier: Some(specifier),
        ..TcpProxy::default()
    }
}
