//! Settings of connection managers that all listeners have in common. Envoy has them in each chain, so that a change of
//! one is a change of each listener.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use crate::{AccessLog, ErrorBody, Tracing};

/// Settings of HTTP connections (`HttpConnectionManager`); the names in code style are those of the keys in a Module.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "each is a field of Envoy's")]
pub struct HttpOptions {
    /// `use_remote_address`
    pub use_remote_address: bool,
    /// `server_name`: the `server` header of responses.
    pub server_name: String,
    /// `listener_idle_timeout_ms`; zero: no limit; `None`: Envoy's default of one hour.
    pub idle_timeout: Option<Duration>,
    /// `headers_with_underscores_action`
    pub underscores: Underscores,
    /// `max_request_headers_kb`; `None`: Envoy's default of 60.
    pub max_request_headers_kb: Option<u32>,
    /// `enable_http10`
    pub http10: bool,
    /// `allow_chunked_length`
    pub allow_chunked_length: bool,
    /// `proper_case`: whether header names of HTTP/1 responses are capitalised.
    pub proper_case: bool,
    /// `preserve_external_request_id`
    pub preserve_request_id: bool,
    /// `forward_client_cert_details`
    pub forwarded_certificate: ForwardedCertificate,
    /// `set_current_client_cert_details`
    pub certificate_details: CertificateDetails,
    /// `strip_matching_host_port`
    pub strip_matching_port: bool,
    /// `merge_slashes`
    pub merge_slashes: bool,
    /// `reject_requests_with_escaped_slashes`
    pub reject_escaped_slashes: bool,
    /// `suppress_envoy_headers`
    pub suppress_envoy_headers: bool,
    /// Replacements of error bodies, by status code, of requests that no route matches.
    pub error_bodies: BTreeMap<u16, ErrorBody>,
    /// Where requests are logged.
    pub access_logs: Vec<AccessLog>,
    /// Where traces are sent; `None`: there are none.
    pub tracing: Option<Arc<Tracing>>,
}

impl Default for HttpOptions {
    fn default() -> Self {
        Self {
            use_remote_address: true,
            server_name: "envoy".to_owned(),
            idle_timeout: None,
            underscores: Underscores::Allow,
            max_request_headers_kb: None,
            http10: false,
            allow_chunked_length: false,
            proper_case: false,
            preserve_request_id: false,
            forwarded_certificate: ForwardedCertificate::Sanitize,
            certificate_details: CertificateDetails::default(),
            strip_matching_port: false,
            merge_slashes: false,
            reject_escaped_slashes: false,
            suppress_envoy_headers: false,
            error_bodies: BTreeMap::new(),
            access_logs: Vec::new(),
            tracing: None,
        }
    }
}

/// What happens to request headers whose names have underscores.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Underscores {
    /// They are passed on.
    #[default]
    Allow,
    /// The request is rejected.
    Reject,
    /// They are dropped.
    Drop,
}

/// What happens to the header `x-forwarded-client-cert`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ForwardedCertificate {
    /// `SANITIZE`
    #[default]
    Sanitize,
    /// `FORWARD_ONLY`
    ForwardOnly,
    /// `APPEND_FORWARD`
    AppendForward,
    /// `SANITIZE_SET`
    SanitizeSet,
    /// `ALWAYS_FORWARD_ONLY`
    AlwaysForwardOnly,
}

/// What `x-forwarded-client-cert` says of the client's certificate.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "each is a field of Envoy's")]
pub struct CertificateDetails {
    /// The subject.
    pub subject: bool,
    /// The certificate.
    pub cert: bool,
    /// The chain.
    pub chain: bool,
    /// DNS names.
    pub dns: bool,
    /// URIs.
    pub uri: bool,
}
