//! A TLSContext: how TLS is spoken, for Hosts, Mappings and TCPMappings that refer to it.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::field::{conditions, undescribed};

/// How TLS is spoken, for whoever refers to it.
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
    doc = "How TLS is spoken, for whoever refers to it.",
    printcolumn = r#"{"name":"Secret","type":"string","jsonPath":".spec.secret"}"#,
    printcolumn = r#"{"name":"CA Secret","type":"string","jsonPath":".spec.ca_secret"}"#,
    printcolumn = r#"{"name":"Hosts","type":"string","jsonPath":".spec.hosts"}"#
)]
pub struct TlsContextSpec {
    /// Instances that this is for, by their ids. Default: `default`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ambassador_id: Vec<String>,
    /// TLS server names for which TCPMappings end TLS with this.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub hosts: Vec<String>,
    /// Secret with certificate and key (`tls.crt`, `tls.key`): `name`, or `name.namespace`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub secret: Option<String>,
    /// Not supported: Envoys read no files of this. Use `secret`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cert_chain_file: Option<String>,
    /// Not supported: Envoys read no files of this. Use `secret`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub private_key_file: Option<String>,
    /// Secret with the certificates of authorities that are trusted (`tls.crt` or `ca.crt`): `name`, or `name.namespace`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ca_secret: Option<String>,
    /// Not supported: Envoys read no files of this. Use `ca_secret`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cacert_chain_file: Option<String>,
    /// Secret with lists of revoked certificates (`crl.pem` or `user.key`): `name`, or `name.namespace`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub crl_secret: Option<String>,
    /// Protocols offered by ALPN, preferred first, such as `h2,http/1.1`. Default: none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub alpn_protocols: Option<String>,
    /// Whether clients have to show a certificate. Default: false.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cert_required: Option<bool>,
    /// Lowest version of TLS.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub min_tls_version: Option<TlsVersion>,
    /// Highest version of TLS.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_tls_version: Option<TlsVersion>,
    /// Cipher suites of TLS 1.2 and below, as BoringSSL names them. Default: Envoy's.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub cipher_suites: Vec<String>,
    /// Curves, as BoringSSL names them. Default: Envoy's.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ecdh_curves: Vec<String>,
    /// Whether `name.namespace` names a Secret of another namespace, or one with a dot in its name. Default: true.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub secret_namespacing: Option<bool>,
    /// Without effect: what becomes of requests without TLS is said by the Host.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub redirect_cleartext_from: Option<i64>,
    /// Name that is asked for in the TLS hello to a service.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sni: Option<String>,
}

/// A version of TLS.
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

/// What has become of a TLSContext.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct TlsContextStatus {
    /// Accepted, ResolvedRefs and Programmed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "conditions")]
    pub conditions: Vec<Condition>,
}
