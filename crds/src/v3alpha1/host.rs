//! Host: a hostname with its TLS certificate, its Mappings and its policy for insecure requests.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::field::{LocalRef, SecretRef, Selector, conditions, undescribed};

/// Hostname with its TLS certificate and its policy for insecure requests.
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
    doc = "Hostname with its TLS certificate and its policy for insecure requests.",
    printcolumn = r#"{"name":"Hostname","type":"string","jsonPath":".spec.hostname"}"#,
    printcolumn = r#"{"name":"State","type":"string","jsonPath":".status.state"}"#,
    printcolumn = r#"{"name":"Phase Completed","type":"string","jsonPath":".status.phaseCompleted","priority":1}"#,
    printcolumn = r#"{"name":"Phase Pending","type":"string","jsonPath":".status.phasePending","priority":1}"#
)]
#[serde(rename_all = "camelCase")]
pub struct HostSpec {
    /// IDs of the instances this applies to. Default: `default`.
    #[serde(
        rename = "ambassador_id",
        default,
        skip_serializing_if = "Vec::is_empty"
    )]
    pub ambassador_id: Vec<String>,
    /// Hostname, or a glob with `*` as its first or last character; may include `:port`. Default: `*`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hostname: Option<String>,
    /// Deprecated: use `mappingSelector`, which takes precedence.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub selector: Option<Selector>,
    /// Labels that Mappings must have to attach to this Host; their hostname, if set, must match as well. Default: attach
    /// all Mappings whose hostname matches.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mapping_selector: Option<Selector>,
    /// No effect: ACME settings of Emissary 1. Certificates are not requested; set `tlsSecret`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub acme_provider: Option<AcmeProvider>,
    /// Secret with the TLS certificate. Required to terminate TLS.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls_secret: Option<SecretRef>,
    /// TLSContext with further TLS settings. Mutually exclusive with `tls`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls_context: Option<LocalRef>,
    /// Further TLS settings. Mutually exclusive with `tlsContext`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls: Option<HostTls>,
    /// Policy for requests.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub request_policy: Option<RequestPolicy>,
    /// No effect: a feature of Emissary 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub preview_url: Option<PreviewUrl>,
}

/// ACME settings of Emissary 1.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AcmeProvider {
    /// URL of the certificate authority; `none` to disable ACME.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub authority: Option<String>,
    /// Email address of the account's owner.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub email: Option<String>,
    /// Secret with the private key of the account.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub private_key_secret: Option<LocalRef>,
    /// Registration of the account, as JSON.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub registration: Option<String>,
}

/// TLS settings of a Host.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct HostTls {
    /// Not supported: use `tlsSecret`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cert_chain_file: Option<String>,
    /// Not supported: use `tlsSecret`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub private_key_file: Option<String>,
    /// Secret with the CA certificates (`tls.crt` or `ca.crt`) for verifying client certificates.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ca_secret: Option<String>,
    /// Not supported: use `ca_secret`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cacert_chain_file: Option<String>,
    /// Secret with certificate revocation lists (`crl.pem` or `user.key`). Requires `ca_secret`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub crl_secret: Option<String>,
    /// ALPN protocols, separated by commas, such as `h2,http/1.1`. Default: none, so clients use HTTP/1.1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub alpn_protocols: Option<String>,
    /// Whether clients must present a certificate. Requires `ca_secret`. Default: false.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cert_required: Option<bool>,
    /// Minimum TLS version: `v1.0`, `v1.1`, `v1.2` or `v1.3`. Default: `v1.2`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub min_tls_version: Option<String>,
    /// Maximum TLS version: `v1.0`, `v1.1`, `v1.2` or `v1.3`. Default: `v1.3`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_tls_version: Option<String>,
    /// Cipher suites for TLS 1.2 and earlier, by their BoringSSL names. Default: Envoy's.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub cipher_suites: Vec<String>,
    /// Elliptic curves for the key exchange, by their BoringSSL names. Default: Envoy's.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ecdh_curves: Vec<String>,
    /// No effect: use `requestPolicy` and a Listener on that port.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub redirect_cleartext_from: Option<i64>,
    /// No effect: set `sni` of the TLSContext that a Mapping's `tls` names.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sni: Option<String>,
}

/// Policy for requests.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RequestPolicy {
    /// Policy for insecure requests.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub insecure: Option<InsecureRequestPolicy>,
}

/// Policy for insecure requests.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct InsecureRequestPolicy {
    /// Action for insecure requests. `Redirect`: redirect to https; `Reject`: answer 404; `Route`: route like secure
    /// requests. Default: `Redirect`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub action: Option<InsecureAction>,
    /// No effect: use a Listener on that port.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub additional_port: Option<i64>,
}

/// Action for an insecure request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(inline, transform = undescribed)]
pub enum InsecureAction {
    /// Redirect to https.
    Redirect,
    /// Answer 404.
    Reject,
    /// Route like a secure request.
    Route,
}

/// No effect: a feature of Emissary 1.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PreviewUrl {
    /// No effect.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub enabled: Option<bool>,
    /// No effect.
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    pub kind: Option<PreviewUrlType>,
}

/// No effect: a feature of Emissary 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(inline, transform = undescribed)]
pub enum PreviewUrlType {
    /// No effect.
    Path,
}

/// Status of a Host.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct HostStatus {
    /// Source of the certificate. `Other`: the Secret in `tlsSecret`; `None`: no certificate.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls_certificate_source: Option<TlsCertificateSource>,
    /// State. `Initial`: not processed yet; `Pending`: not acknowledged by all Envoys yet; `Ready`: served by all Envoys;
    /// `Error`: see `errorReason`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub state: Option<HostState>,
    /// Last completed phase of the ACME request. Not set by Nuncio.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub phase_completed: Option<HostPhase>,
    /// Current phase of the ACME request. Not set by Nuncio.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub phase_pending: Option<HostPhase>,
    /// Description of the error when `state` is `Error`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error_reason: Option<String>,
    /// Time of the first occurrence of the error.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("format" = "date-time"))]
    pub error_timestamp: Option<String>,
    /// Time until the next ACME request. Not set by Nuncio.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error_backoff: Option<String>,
    /// Conditions `Accepted`, `ResolvedRefs` and `Programmed`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "conditions")]
    pub conditions: Vec<Condition>,
}

/// Source of a certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(inline, transform = undescribed)]
pub enum TlsCertificateSource {
    /// Not determined yet.
    Unknown,
    /// No certificate.
    None,
    /// A Secret that is not managed by Nuncio.
    Other,
    /// Requested with ACME.
    #[serde(rename = "ACME")]
    Acme,
}

/// State of a Host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(inline, transform = undescribed)]
pub enum HostState {
    /// Not processed yet.
    Initial,
    /// Not acknowledged by all Envoys yet.
    Pending,
    /// Served by all Envoys.
    Ready,
    /// Invalid or rejected: see `errorReason`.
    Error,
}

/// Phase of an ACME request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(inline, transform = undescribed)]
pub enum HostPhase {
    /// No ACME request.
    #[serde(rename = "NA")]
    NotApplicable,
    /// Defaults are set.
    DefaultsFilled,
    /// The account has a private key.
    #[serde(rename = "ACMEUserPrivateKeyCreated")]
    AcmeUserPrivateKeyCreated,
    /// The account is registered.
    #[serde(rename = "ACMEUserRegistered")]
    AcmeUserRegistered,
    /// The hostname is being verified.
    #[serde(rename = "ACMECertificateChallenge")]
    AcmeCertificateChallenge,
}
