//! TCPMapping: a route for TCP connections.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::field::{CircuitBreaker, V2ExplicitTls, conditions};

/// Route for TCP connections: which connections it matches, and the service they go to.
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "getambassador.io",
    version = "v3alpha1",
    kind = "TCPMapping",
    plural = "tcpmappings",
    namespaced,
    category = "ambassador-crds",
    category = "nuncio",
    status = "TcpMappingStatus",
    derive = "PartialEq",
    doc = "Route for TCP connections: which connections it matches, and the service they go to.",
    printcolumn = r#"{"name":"Port","type":"integer","jsonPath":".spec.port"}"#,
    printcolumn = r#"{"name":"Host","type":"string","jsonPath":".spec.host"}"#,
    printcolumn = r#"{"name":"Dest Service","type":"string","jsonPath":".spec.service"}"#
)]
pub struct TcpMappingSpec {
    /// IDs of the instances this applies to. Default: `default`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ambassador_id: Vec<String>,
    /// Port that Envoy listens on. No Listener is required.
    pub port: i64,
    /// TLS server name (SNI) of connections, or `*` for any. TLS is terminated with the certificate of a Host or TLSContext
    /// for that name. Default: all connections, without terminating TLS.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    /// IP address that Envoy listens on. Default: all addresses.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub address: Option<String>,
    /// Service that receives the connections: `[scheme://]host[:port]`. `https://` originates TLS. A host without a dot is a
    /// Service in the namespace of this object.
    pub service: String,
    /// Resolver of the addresses of the service: `kubernetes-service` (cluster IP), `endpoint` (endpoints), or the name of a
    /// resolver object. Default: `kubernetes-service`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resolver: Option<String>,
    /// Percentage of the connections, among TCPMappings with the same port, address and host. Default: an equal share of the
    /// remaining percentage.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub weight: Option<i64>,
    /// TLSContext for TLS to the service; `true` for TLS without one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls: Option<String>,
    /// Circuit breakers for the service.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub circuit_breakers: Vec<CircuitBreaker>,
    /// Idle timeout of connections in milliseconds; 0 for no timeout. Default: 3600000.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub idle_timeout_ms: Option<String>,
    /// Whether to resolve IPv4 addresses with DNS. Default: true.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub enable_ipv4: Option<bool>,
    /// Whether to resolve IPv6 addresses with DNS. Default: false.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub enable_ipv6: Option<bool>,
    /// Tag that keeps the Envoy cluster of this TCPMapping apart from those of others with equal settings.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cluster_tag: Option<String>,
    /// Name of the Envoy cluster in statistics. Default: derived from `service`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stats_name: Option<String>,
    /// TLS as version v2 writes it. For conversion only.
    #[serde(rename = "v2ExplicitTLS", skip_serializing_if = "Option::is_none")]
    pub v2_explicit_tls: Option<V2ExplicitTls>,
}

/// Status of a TCPMapping.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct TcpMappingStatus {
    /// Conditions `Accepted`, `ResolvedRefs` and `Programmed`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "conditions")]
    pub conditions: Vec<Condition>,
}
