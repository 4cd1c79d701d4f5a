//! `envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy`

use crate::{
    ir,
    pb::envoy::extensions::filters::network::tcp_proxy::v3::{
        TcpProxy,
        tcp_proxy::{ClusterSpecifier, WeightedCluster, weighted_cluster::ClusterWeight},
    },
};

/// The TCP proxy of a filter chain.
pub(super) fn tcp_proxy(stat_prefix: &str, proxy: &ir::TcpProxy) -> TcpProxy {
    let specifier = match proxy.clusters.as_slice() {
        [(only, _)] => ClusterSpecifier::Cluster(only.to_string()),
        several => ClusterSpecifier::WeightedClusters(WeightedCluster {
            clusters: several
                .iter()
                .map(|(name, weight)| ClusterWeight {
                    name: name.to_string(),
                    weight: *weight,
                    ..ClusterWeight::default()
                })
                .collect(),
        }),
    };
    TcpProxy {
        stat_prefix: stat_prefix.to_owned(),
        idle_timeout: proxy.idle_timeout.map(super::duration),
        cluster_specifier: Some(specifier),
        ..TcpProxy::default()
    }
}
