//! Listener: a port with its protocols and the Hosts it serves.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::field::{Selector, conditions, undescribed};

/// Port that Envoy listens on, with its protocols and the Hosts it serves.
#[derive(CustomResource, Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "getambassador.io",
    version = "v3alpha1",
    kind = "Listener",
    plural = "listeners",
    namespaced,
    category = "ambassador-crds",
    category = "nuncio",
    shortname = "lsn",
    status = "ListenerStatus",
    derive = "PartialEq",
    doc = "Port that Envoy listens on, with its protocols and the Hosts it serves.",
    printcolumn = r#"{"name":"Port","type":"string","jsonPath":".spec.port"}"#,
    printcolumn = r#"{"name":"Protocol","type":"string","jsonPath":".spec.protocol"}"#,
    printcolumn = r#"{"name":"Stack","type":"string","jsonPath":".spec.protocolStack"}"#,
    printcolumn = r#"{"name":"StatsPrefix","type":"string","jsonPath":".spec.statsPrefix","priority":1}"#,
    printcolumn = r#"{"name":"Security","type":"string","jsonPath":".spec.securityModel"}"#,
    printcolumn = r#"{"name":"L7Depth","type":"string","jsonPath":".spec.l7Depth","priority":1}"#
)]
#[serde(rename_all = "camelCase")]
pub struct ListenerSpec {
    /// IDs of the instances this applies to. Default: `default`.
    #[serde(
        rename = "ambassador_id",
        default,
        skip_serializing_if = "Vec::is_empty"
    )]
    pub ambassador_id: Vec<String>,
    /// Port that Envoy listens on.
    #[schemars(range(min = 1, max = 65535))]
    pub port: i32,
    /// Common protocol stack by name. Set this or `protocolStack`, which takes precedence.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub protocol: Option<Protocol>,
    /// Protocols from the outermost to the innermost, such as `[PROXY, TLS, HTTP, TCP]`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub protocol_stack: Vec<Layer>,
    /// Requests to treat as secure. `XFP`: those with `x-forwarded-proto: https`, which Envoy sets from the connection
    /// unless `l7Depth` trusts a proxy; `SECURE`: all; `INSECURE`: none.
    pub security_model: SecurityModel,
    /// Prefix of statistics. Default: `ingress_http` or `ingress_https`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stats_prefix: Option<String>,
    /// Number of trusted HTTP proxies in front of Envoy. If greater than 0, `x-forwarded-for` and `x-forwarded-proto` of
    /// requests are trusted. Default: 0.
    #[serde(rename = "l7Depth", skip_serializing_if = "Option::is_none")]
    pub l7_depth: Option<i32>,
    /// Maximum number of concurrent HTTP/2 streams per client connection. Default: 100.
    #[serde(
        rename = "http2MaxConcurrentStreams",
        skip_serializing_if = "Option::is_none"
    )]
    #[schemars(range(min = 1))]
    pub http2_max_concurrent_streams: Option<i64>,
    /// Hosts that this Listener serves.
    pub host_binding: HostBinding,
}

/// Name of a common protocol stack.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "UPPERCASE")]
#[schemars(inline, transform = undescribed)]
pub enum Protocol {
    /// HTTP without TLS.
    Http,
    /// HTTP over TLS.
    Https,
    /// HTTP after a PROXY protocol header.
    Httpproxy,
    /// HTTP over TLS after a PROXY protocol header.
    Httpsproxy,
    /// TCP, for TCPMappings.
    Tcp,
    /// TLS, for TCPMappings.
    Tls,
    /// Not supported alone; for HTTP/3 set `protocolStack: [TLS, HTTP, UDP]`.
    Udp,
}

/// Layer of a protocol stack.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "UPPERCASE")]
#[schemars(inline, transform = undescribed)]
pub enum Layer {
    /// HTTP
    Http,
    /// PROXY protocol header, version 1 or 2.
    Proxy,
    /// TLS
    Tls,
    /// TCP
    Tcp,
    /// UDP
    Udp,
}

/// Requests to treat as secure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "UPPERCASE")]
#[schemars(inline, transform = undescribed)]
pub enum SecurityModel {
    /// Those with `x-forwarded-proto: https`, which Envoy sets from the connection unless `l7Depth` trusts a proxy.
    Xfp,
    /// All requests.
    Secure,
    /// No requests.
    Insecure,
}

/// Hosts that a Listener serves. At least one of the two fields must be set; a Host must match both.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct HostBinding {
    /// Namespaces of the Hosts. Default: the namespace of the Listener.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub namespace: Option<NamespaceBinding>,
    /// Labels that the Hosts must have.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub selector: Option<Selector>,
}

/// Namespaces of the Hosts.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct NamespaceBinding {
    /// Namespaces to include. `SELF`: the namespace of the Listener; `ALL`: all namespaces; `SELECTOR`: namespaces that
    /// match `selector`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub from: Option<NamespaceFrom>,
    /// Labels that the namespaces must have, with `from: SELECTOR`. Emissary does not have this field and handles `SELECTOR`
    /// like `SELF`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub selector: Option<Selector>,
}

/// Namespaces to include.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "UPPERCASE")]
#[schemars(inline, transform = undescribed)]
pub enum NamespaceFrom {
    /// The namespace of the Listener.
    #[serde(rename = "SELF")]
    Own,
    /// All namespaces.
    All,
    /// Namespaces that match a selector.
    Selector,
}

/// Status of a Listener.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ListenerStatus {
    /// Conditions `Accepted`, `ResolvedRefs` and `Programmed`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "conditions")]
    pub conditions: Vec<Condition>,
}
