//! Load balancing that prefers the endpoints of an Envoy's own zone.
//!
//! As in kube-proxy, all requests go to the endpoints of the zone while there is one, and to those of all zones otherwise.
//! Envoy's own default, which shares requests among zones by the number of their Envoys and endpoints, would need to know
//! how many Envoys each zone has. An Envoy without a zone ([`crate::bootstrap`]) uses the endpoints of all zones.

use crate::{
    ir::Balancer,
    pb::{
        envoy::{
            config::{
                cluster::v3::{LoadBalancingPolicy, load_balancing_policy::Policy},
                core::v3::TypedExtensionConfig,
            },
            extensions::load_balancing_policies::{
                common::v3::{
                    LocalityLbConfig,
                    locality_lb_config::{
                        LocalityConfigSpecifier, ZoneAwareLbConfig,
                        zone_aware_lb_config::ForceLocalZone,
                    },
                },
                least_request::v3::LeastRequest,
                round_robin::v3::RoundRobin,
            },
        },
        google::protobuf::{Any, UInt64Value},
    },
};

/// The policy; `None`: one that selects endpoints by a hash, which is the same in all zones.
pub(super) fn policy(balancer: Balancer) -> Option<LoadBalancingPolicy> {
    let locality_lb_config = Some(LocalityLbConfig {
        locality_config_specifier: Some(LocalityConfigSpecifier::ZoneAwareLbConfig(
            ZoneAwareLbConfig {
                min_cluster_size: Some(UInt64Value { value: 1 }),
                force_local_zone: Some(ForceLocalZone::default()),
                ..ZoneAwareLbConfig::default()
            },
        )),
    });
    let (name, config): (_, Any) = match balancer {
        Balancer::RoundRobin => {
            let config = RoundRobin {
                locality_lb_config,
                ..RoundRobin::default()
            };
            ("round_robin", super::super::any(&config))
        }
        Balancer::LeastRequest => {
            let config = LeastRequest {
                locality_lb_config,
                ..LeastRequest::default()
            };
            ("least_request", super::super::any(&config))
        }
        Balancer::RingHash | Balancer::Maglev => return None,
    };
    let policy = Policy {
        typed_extension_config: Some(TypedExtensionConfig {
            name: format!("envoy.load_balancing_policies.{name}"),
            typed_config: Some(config),
        }),
    };
    Some(LoadBalancingPolicy {
        policies: vec![policy],
    })
}
