//! Keys for connections of clients.

use nuncio_ir::{CertificateDetails, ForwardedCertificate, HttpOptions, Underscores};

use super::config::Config;
use crate::report::{Problem, Reason};

/// Longest value of a header that Envoy adds.
const MAX_HEADER: usize = 16_384;

/// The settings, apart from those that other objects determine, too.
pub(super) fn options(config: &mut Config<'_>) -> HttpOptions {
    let built_in = HttpOptions::default();
    case_overrides(config);
    HttpOptions {
        use_remote_address: config.boolean("use_remote_address", built_in.use_remote_address),
        server_name: server_name(config).unwrap_or_else(|| built_in.server_name.clone()),
        idle_timeout: config.milliseconds("listener_idle_timeout_ms", &"1 hour"),
        underscores: underscores(config).unwrap_or_default(),
        // Envoy's limits
        max_request_headers_kb: config.number("max_request_headers_kb", 1..=8192),
        http10: config.boolean("enable_http10", false),
        allow_chunked_length: config.boolean("allow_chunked_length", false),
        proper_case: config.boolean("proper_case", false),
        preserve_request_id: config.boolean("preserve_external_request_id", false),
        forwarded_certificate: forwarded_certificate(config).unwrap_or_default(),
        certificate_details: certificate_details(config).unwrap_or_default(),
        strip_matching_port: config.boolean("strip_matching_host_port", false),
        merge_slashes: config.boolean("merge_slashes", false),
        reject_escaped_slashes: config.boolean("reject_requests_with_escaped_slashes", false),
        suppress_envoy_headers: config.boolean("suppress_envoy_headers", false),
        ..built_in
    }
}

fn server_name(config: &mut Config<'_>) -> Option<String> {
    let name = config.text("server_name")?;
    if name.len() > MAX_HEADER || name.chars().any(char::is_control) {
        let fact = format!("must not contain control characters or exceed {MAX_HEADER} bytes");
        config.replace("server_name", fact, "envoy");
        return None;
    }
    Some(name.to_owned())
}

fn underscores(config: &mut Config<'_>) -> Option<Underscores> {
    let choices = [
        ("ALLOW", Underscores::Allow),
        ("REJECT_REQUEST", Underscores::Reject),
        ("DROP_HEADER", Underscores::Drop),
    ];
    config.choice("headers_with_underscores_action", &choices)
}

fn forwarded_certificate(config: &mut Config<'_>) -> Option<ForwardedCertificate> {
    let choices = [
        ("SANITIZE", ForwardedCertificate::Sanitize),
        ("FORWARD_ONLY", ForwardedCertificate::ForwardOnly),
        ("APPEND_FORWARD", ForwardedCertificate::AppendForward),
        ("SANITIZE_SET", ForwardedCertificate::SanitizeSet),
        (
            "ALWAYS_FORWARD_ONLY",
            ForwardedCertificate::AlwaysForwardOnly,
        ),
    ];
    config.choice("forward_client_cert_details", &choices)
}

fn certificate_details(config: &mut Config<'_>) -> Option<CertificateDetails> {
    config.section("set_current_client_cert_details", |details| {
        CertificateDetails {
            subject: details.boolean("subject", false),
            cert: details.boolean("cert", false),
            chain: details.boolean("chain", false),
            dns: details.boolean("dns", false),
            uri: details.boolean("uri", false),
        }
    })
}

/// Envoy has no such field any more. What it has instead would keep the case of each name as the upstream sends it.
fn case_overrides(config: &mut Config<'_>) {
    const KEY: &str = "header_case_overrides";
    if config.value(KEY).is_some() {
        let message = "Envoy does not support it; ignored (proper_case capitalises all names)";
        let problem = Problem::ignored(Reason::NOT_SUPPORTED, config.path(KEY), message);
        config.report(problem);
    }
}
