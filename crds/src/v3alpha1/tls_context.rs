//! TLSContext: TLS settings for Hosts, Mappings and TCPMappings that refer to it.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::field::{conditions, undescribed};

/// TLS settings for Hosts, Mappings and TCPMappings that refer to them.
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "getambassador.io",
    version = "v3alpha1",
    kind = "TLSContext",
    plural = "tlscontexts",
    namespaced,
    category = "ambassador-crds",
    category = "nuncio",
    status = "TlsContextStatus",
    derive = "PartialEq",
    doc = "TLS settings for Hosts, Mappings and TCPMappings that refer to them.",
    printcolumn = r#"{"name":"Secret","type":"string","jsonPath":".spec.secret"}"#,
    printcolumn = r#"{"name":"CA Secret","type":"string","jsonPath":".spec.ca_secret"}"#,
    printcolumn = r#"{"name":"Hosts","type":"string","jsonPath":".spec.hosts"}"#
)]
pub struct TlsContextSpec {
    /// IDs of the instances this applies to. Default: `default`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ambassador_id: Vec<String>,
    /// TLS server names (SNI) for which TCPMappings terminate TLS with this certificate.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub hosts: Vec<String>,
    /// Secret with a certificate and its private key (`tls.crt`, `tls.key`): `name`, or `name.namespace`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub secret: Option<String>,
    /// Not supported: use `secret`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cert_chain_file: Option<String>,
    /// Not supported: use `secret`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub private_key_file: Option<String>,
    /// Secret with trusted CA certificates (`tls.crt` or `ca.crt`): `name`, or `name.namespace`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ca_secret: Option<String>,
    /// Not supported: use `ca_secret`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cacert_chain_file: Option<String>,
    /// Secret with certificate revocation lists (`crl.pem` or `user.key`): `name`, or `name.namespace`. Requires `ca_secret`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub crl_secret: Option<String>,
    /// ALPN protocols, separated by commas, in order of preference, such as `h2,http/1.1`. Default: none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub alpn_protocols: Option<String>,
    /// Whether clients must present a certificate. Requires `ca_secret`. Default: false.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cert_required: Option<bool>,
    /// Minimum TLS version. Default: Envoy's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub min_tls_version: Option<TlsVersion>,
    /// Maximum TLS version. Default: Envoy's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_tls_version: Option<TlsVersion>,
    /// Cipher suites for TLS 1.2 and earlier, by their BoringSSL names. Default: Envoy's.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub cipher_suites: Vec<String>,
    /// Elliptic curves for the key exchange, by their BoringSSL names. Default: Envoy's.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ecdh_curves: Vec<String>,
    /// Whether `name.namespace` refers to a Secret in that namespace; otherwise the dot is a part of its name. Default:
    /// true.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub secret_namespacing: Option<bool>,
    /// No effect: set `requestPolicy.insecure` on the Host.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub redirect_cleartext_from: Option<i64>,
    /// TLS server name (SNI) sent to upstreams.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sni: Option<String>,
}

/// TLS version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(inline, transform = undescribed)]
pub enum TlsVersion {
    /// 1.0
    #[serde(rename = "v1.0")]
    V1_0,
    /// 1.1
    #[serde(rename = "v1.1")]
    V1_1,
    /// 1.2
    #[serde(rename = "v1.2")]
    V1_2,
    /// 1.3
    #[serde(rename = "v1.3")]
    V1_3,
}

/// Status of a TLSContext.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct TlsContextStatus {
    /// Conditions `Accepted`, `ResolvedRefs` and `Programmed`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "conditions")]
    pub conditions: Vec<Condition>,
}
