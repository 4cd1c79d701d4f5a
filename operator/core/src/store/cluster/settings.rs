//! The settings of a cluster: what its upstream sets, completed with the defaults.

use std::time::Duration;

use nuncio_ir::{Balancer, CircuitBreaker, HealthCheck, Keepalive, OutlierDetection};

use super::family::Families;
use crate::{defaults::Defaults, reconcile::ClusterSettings};

/// How connections to an upstream are made and shared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Settings {
    pub(super) connect_timeout: Duration,
    pub(super) families: Families,
    pub(super) logical_dns: bool,
    pub(super) respect_dns_ttl: bool,
    pub(super) idle_timeout: Option<Duration>,
    pub(super) max_connection_lifetime: Option<Duration>,
    pub(super) balancer: Option<Balancer>,
    pub(super) circuit_breakers: Vec<CircuitBreaker>,
    pub(super) keepalive: Option<Keepalive>,
    pub(super) health_checks: Vec<HealthCheck>,
    pub(super) outlier_detection: Option<OutlierDetection>,
    pub(super) stat_name: Option<String>,
    pub(super) tag: Option<String>,
}

impl Settings {
    /// The complete settings of an upstream.
    pub(super) fn new(own: &ClusterSettings, defaults: &Defaults) -> Self {
        let lifetime = own
            .max_connection_lifetime
            .or(defaults.max_connection_lifetime);
        let default_balancer = defaults.load_balancer.as_ref();
        Self {
            connect_timeout: own.connect_timeout.unwrap_or(defaults.connect_timeout),
            families: Families::new(
                own.enable_ipv4.or(defaults.enable_ipv4),
                own.enable_ipv6.or(defaults.enable_ipv6),
            ),
            logical_dns: own.logical_dns,
            respect_dns_ttl: own.respect_dns_ttl,
            idle_timeout: own.idle_timeout.or(defaults.cluster_idle_timeout),
            max_connection_lifetime: lifetime.filter(|time| !time.is_zero()),
            balancer: own
                .balancer
                .or_else(|| default_balancer.map(|default| default.balancer)),
            circuit_breakers: own
                .circuit_breakers
                .as_ref()
                .unwrap_or(&defaults.circuit_breakers)
                .clone(),
            keepalive: own.keepalive.or(defaults.keepalive),
            health_checks: own.health_checks.clone(),
            outlier_detection: own.outlier_detection,
            stat_name: own.stat_name.clone(),
            tag: own.tag.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::defaults::LoadBalancer;

    fn defaults() -> Defaults {
        Defaults {
            connect_timeout: Duration::from_secs(1),
            cluster_idle_timeout: Some(Duration::from_secs(2)),
            max_connection_lifetime: Some(Duration::from_secs(4)),
            load_balancer: Some(LoadBalancer {
                balancer: Balancer::Maglev,
                hash: None,
            }),
            circuit_breakers: vec![CircuitBreaker::default()],
            enable_ipv6: Some(true),
            ..Defaults::default()
        }
    }

    #[test]
    fn defaults_apply_where_an_upstream_sets_nothing() {
        let settings = Settings::new(&ClusterSettings::default(), &defaults());
        assert_eq!(settings.connect_timeout, Duration::from_secs(1));
        assert_eq!(settings.idle_timeout, Some(Duration::from_secs(2)));
        assert_eq!(
            settings.max_connection_lifetime,
            Some(Duration::from_secs(4))
        );
        assert_eq!(settings.balancer, Some(Balancer::Maglev));
        assert_eq!(settings.circuit_breakers.len(), 1);
        assert_eq!(settings.families, Families::Both);
    }

    #[test]
    fn what_an_upstream_sets_wins_over_the_defaults() {
        let own = ClusterSettings {
            connect_timeout: Some(Duration::from_secs(9)),
            idle_timeout: Some(Duration::ZERO),
            max_connection_lifetime: Some(Duration::ZERO),
            balancer: Some(Balancer::RoundRobin),
            circuit_breakers: Some(Vec::new()),
            enable_ipv4: Some(false),
            ..ClusterSettings::default()
        };
        let settings = Settings::new(&own, &defaults());
        assert_eq!(settings.connect_timeout, Duration::from_secs(9));
        assert_eq!(settings.idle_timeout, Some(Duration::ZERO));
        assert_eq!(settings.max_connection_lifetime, None);
        assert_eq!(settings.balancer, Some(Balancer::RoundRobin));
        assert_eq!(settings.circuit_breakers, []);
        assert_eq!(settings.families, Families::V6);
    }
}
