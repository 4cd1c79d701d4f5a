//! Filters for gRPC: `envoy.extensions.filters.http.{grpc_http1_bridge.v3.Config, grpc_web.v3.GrpcWeb,
//! grpc_stats.v3.FilterConfig}`.

use crate::{
    ir::{GrpcMethods, GrpcStats},
    pb::{
        envoy::{
            config::core::v3::{GrpcMethodList, grpc_method_list::Service},
            extensions::filters::{
                http::{
                    grpc_http1_bridge::v3::Config,
                    grpc_stats::v3::{FilterConfig, filter_config::PerMethodStatSpecifier},
                    grpc_web::v3::GrpcWeb,
                },
                network::http_connection_manager::v3::HttpFilter,
            },
        },
        google::protobuf::Any,
    },
    render::{any, boolean},
};

/// Makes gRPC requests of HTTP/1.1 requests.
pub(super) fn http1_bridge(name: &str) -> HttpFilter {
    super::on_every_route(name, &Config::default())
}

/// gRPC-Web.
pub(super) fn web(name: &str) -> HttpFilter {
    super::on_every_route(name, &GrpcWeb::default())
}

/// Statistics of methods.
pub(super) fn stats(stats: &GrpcStats) -> Any {
    any(&FilterConfig {
        enable_upstream_stats: stats.upstream,
        per_method_stat_specifier: Some(match &stats.methods {
            GrpcMethods::All(all) => PerMethodStatSpecifier::StatsForAllMethods(boolean(*all)),
            GrpcMethods::Listed(services) => {
                let service = |(name, methods): &(String, Vec<String>)| Service {
                    name: name.clone(),
                    method_names: methods.clone(),
                };
                let services = services.iter().map(service).collect();
                let list = GrpcMethodList { services };
                PerMethodStatSpecifier::IndividualMethodStatsAllowlist(list)
            }
        }),
        ..FilterConfig::default()
    })
}
