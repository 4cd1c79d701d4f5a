//! A TCPMapping: which connections, and where they go.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::field::{CircuitBreaker, V2ExplicitTls, conditions};

/// Which connections go where.
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
    doc = "Which connections go where.",
    printcolumn = r#"{"name":"Port","type":"integer","jsonPath":".spec.port"}"#,
    printcolumn = r#"{"name":"Host","type":"string","jsonPath":".spec.host"}"#,
    printcolumn = r#"{"name":"Dest Service","type":"string","jsonPath":".spec.service"}"#
)]
pub struct TcpMappingSpec {
    /// Instances that this is for, by their ids. Default: `default`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ambassador_id: Vec<String>,
    /// Port that Envoys listen on. A Listener for it is not needed.
    pub port: i64,
    /// TLS server name of the connections, or `*` for any; TLS is ended here, with the certificate of a Host or TLSContext for
    /// that name. Default: every connection, as it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    /// IP address that Envoys listen on. Default: all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub address: Option<String>,
    /// Where connections go: `[scheme://]host[:port]`. `https://` originates TLS. A host without a dot is a Service in this namespace.
    pub service: String,
    /// How the addresses of the service are found: `kubernetes-service` by its cluster IP, `endpoint` by its endpoints, or the name of a resolver. Default: kubernetes-service.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resolver: Option<String>,
    /// Share of the connections that TCPMappings with the same port, address and host have. Default: an equal share of what is left of 100.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub weight: Option<i64>,
    /// TLSContext with which TLS to the service is originated.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls: Option<String>,
    /// Limits of what the service is given at a time.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub circuit_breakers: Vec<CircuitBreaker>,
    /// Milliseconds without traffic after which a connection is closed; 0: never. Default: 3600000.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub idle_timeout_ms: Option<String>,
    /// Whether DNS is asked for IPv4 addresses. Default: true.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub enable_ipv4: Option<bool>,
    /// Whether DNS is asked for IPv6 addresses. Default: false.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub enable_ipv6: Option<bool>,
    /// Keeps the cluster of this TCPMapping apart from others with equal settings.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cluster_tag: Option<String>,
    /// Name of the cluster in statistics. Default: from the name of the service.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stats_name: Option<String>,
    /// How version v2 spelled TLS; kept for conversion only.
    #[serde(rename = "v2ExplicitTLS", skip_serializing_if = "Option::is_none")]
    pub v2_explicit_tls: Option<V2ExplicitTls>,
}

/// What has become of a TCPMapping.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct TcpMappingStatus {
    /// Accepted, ResolvedRefs and Programmed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "conditions")]
    pub conditions: Vec<Condition>,
}
