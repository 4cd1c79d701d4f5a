//! A Host: a host name that is served, its certificate, and which Mappings it takes.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::field::{LocalRef, SecretRef, Selector, conditions, undescribed};

/// A host name that is served, with its certificate and what becomes of insecure requests.
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "getambassador.io",
    version = "v3alpha1",
    kind = "Host",
    plural = "hosts",
    namespaced,
    category = "ambassador-crds",
    category = "nuncio",
    status = "HostStatus",
    derive = "PartialEq",
    doc = "A host name that is served, with its certificate and what becomes of insecure requests.",
    printcolumn = r#"{"name":"Hostname","type":"string","jsonPath":".spec.hostname"}"#,
    printcolumn = r#"{"name":"State","type":"string","jsonPath":".status.state"}"#,
    printcolumn = r#"{"name":"Phase Completed","type":"string","jsonPath":".status.phaseCompleted","priority":1}"#,
    printcolumn = r#"{"name":"Phase Pending","type":"string","jsonPath":".status.phasePending","priority":1}"#
)]
#[serde(rename_all = "camelCase")]
pub struct HostSpec {
    /// Instances that this is for, by their ids. Default: `default`.
    #[serde(
        rename = "ambassador_id",
        default,
        skip_serializing_if = "Vec::is_empty"
    )]
    pub ambassador_id: Vec<String>,
    /// The host name, or a glob with `*` as its first or last character; may carry `:port`. Default: `*`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hostname: Option<String>,
    /// Deprecated: use `mappingSelector`, which wins.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub selector: Option<Selector>,
    /// Which Mappings are taken, by their labels. Without it, those whose hostname fits; with it, those that also have the labels, and
    /// those without a hostname that have them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mapping_selector: Option<Selector>,
    /// Where certificates were asked for in Emissary 1; certificates are not asked for here any more.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub acme_provider: Option<AcmeProvider>,
    /// The Secret with the certificate. TLS is served only with one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls_secret: Option<SecretRef>,
    /// A TLSContext with further TLS settings. Not together with `tls`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls_context: Option<LocalRef>,
    /// Further TLS settings.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls: Option<HostTls>,
    /// What becomes of requests, by how they came.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub request_policy: Option<RequestPolicy>,
    /// Without effect; a feature of Emissary 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub preview_url: Option<PreviewUrl>,
}

/// Where certificates were asked for in Emissary 1.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AcmeProvider {
    /// Address of the authority; `none` for none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub authority: Option<String>,
    /// Address of the account's owner.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub email: Option<String>,
    /// Secret with the account's key.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub private_key_secret: Option<LocalRef>,
    /// Registration of the account.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub registration: Option<String>,
}

/// TLS settings of a Host.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct HostTls {
    /// Path of a certificate chain, where Envoy runs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cert_chain_file: Option<String>,
    /// Path of a private key, where Envoy runs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub private_key_file: Option<String>,
    /// Secret with the certificates (in `tls.crt`) that client certificates are verified against.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ca_secret: Option<String>,
    /// Path of such certificates, where Envoy runs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cacert_chain_file: Option<String>,
    /// Secret with a list of revoked certificates (in `crl.pem`).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub crl_secret: Option<String>,
    /// Protocols offered by ALPN, separated by commas, such as `h2,http/1.1`. Default: none, so that clients use HTTP/1.1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub alpn_protocols: Option<String>,
    /// Whether clients must have a certificate. Default: false.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cert_required: Option<bool>,
    /// Oldest version of TLS that is accepted: `v1.0`, `v1.1`, `v1.2` or `v1.3`. Default: v1.2.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub min_tls_version: Option<String>,
    /// Newest version of TLS that is accepted. Default: v1.3.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_tls_version: Option<String>,
    /// Cipher suites for TLS 1.2 and before, by the names that BoringSSL has for them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub cipher_suites: Vec<String>,
    /// Curves for the key exchange, by the names that BoringSSL has for them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ecdh_curves: Vec<String>,
    /// Without effect: use `requestPolicy` and a Listener on that port.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub redirect_cleartext_from: Option<i64>,
    /// Server name sent to upstreams; without effect on a Host.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sni: Option<String>,
}

/// What becomes of requests, by how they came.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RequestPolicy {
    /// Insecure requests.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub insecure: Option<InsecureRequestPolicy>,
}

/// What becomes of insecure requests.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct InsecureRequestPolicy {
    /// `Redirect` sends them to https, `Reject` has no route for them (404), `Route` routes them like secure ones.
    /// Default: `Redirect`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub action: Option<InsecureAction>,
    /// Without effect: use a Listener on that port.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub additional_port: Option<i64>,
}

/// What is done with an insecure request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(inline, transform = undescribed)]
pub enum InsecureAction {
    /// It is redirected to https.
    Redirect,
    /// There is no route for it.
    Reject,
    /// It is routed like a secure one.
    Route,
}

/// A feature of Emissary 1.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PreviewUrl {
    /// Without effect.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub enabled: Option<bool>,
    /// Without effect.
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    pub kind: Option<PreviewUrlType>,
}

/// A feature of Emissary 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(inline, transform = undescribed)]
pub enum PreviewUrlType {
    /// Without effect.
    Path,
}

/// What has become of a Host.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct HostStatus {
    /// Where the certificate comes from: `Other` is a Secret that somebody fills, `None` says that there is none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls_certificate_source: Option<TlsCertificateSource>,
    /// `Initial`: not looked at yet; `Pending`: on its way to the Envoys; `Ready`: served; `Error`: see `errorReason`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub state: Option<HostState>,
    /// Last phase of asking for a certificate that is done.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub phase_completed: Option<HostPhase>,
    /// Phase of asking for a certificate that is under way.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub phase_pending: Option<HostPhase>,
    /// What is wrong, when `state` is `Error`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error_reason: Option<String>,
    /// Since when it is wrong.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("format" = "date-time"))]
    pub error_timestamp: Option<String>,
    /// Time until the next try.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error_backoff: Option<String>,
    /// Accepted, ResolvedRefs and Programmed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "conditions")]
    pub conditions: Vec<Condition>,
}

/// Where a certificate comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(inline, transform = undescribed)]
pub enum TlsCertificateSource {
    /// Not known yet.
    Unknown,
    /// There is none.
    None,
    /// A Secret that somebody fills.
    Other,
    /// It was asked for.
    #[serde(rename = "ACME")]
    Acme,
}

/// State of a Host in one word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(inline, transform = undescribed)]
pub enum HostState {
    /// Not looked at yet.
    Initial,
    /// On its way to the Envoys.
    Pending,
    /// Served.
    Ready,
    /// Something is wrong: see `errorReason`.
    Error,
}

/// A phase of asking for a certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(inline, transform = undescribed)]
pub enum HostPhase {
    /// None.
    #[serde(rename = "NA")]
    NotApplicable,
    /// Defaults were filled in.
    DefaultsFilled,
    /// The account has a key.
    #[serde(rename = "ACMEUserPrivateKeyCreated")]
    AcmeUserPrivateKeyCreated,
    /// The account is registered.
    #[serde(rename = "ACMEUserRegistered")]
    AcmeUserRegistered,
    /// The name is being verified.
    #[serde(rename = "ACMECertificateChallenge")]
    AcmeCertificateChallenge,
}
