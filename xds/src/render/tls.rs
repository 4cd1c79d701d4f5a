//! `envoy.extensions.transport_sockets.tls.v3.{DownstreamTlsContext, UpstreamTlsContext}`
//!
//! Both refer to certificates and CA certificates by name (SDS), so that rotation does not change them.

use prost::{Message, Name};

use crate::{
    ir::{self, TlsVersion},
    pb::envoy::{
        config::core::v3::{TransportSocket, transport_socket::ConfigType},
        extensions::transport_sockets::{
            quic::v3::QuicDownstreamTransport,
            tls::v3::{
                CommonTlsContext, DownstreamTlsContext, SdsSecretConfig, TlsParameters,
                UpstreamTlsContext, common_tls_context::ValidationContextType,
                tls_parameters::TlsProtocol,
            },
        },
    },
};

/// TLS termination.
pub(super) fn downstream(tls: &ir::ServerTls) -> TransportSocket {
    socket("envoy.transport_sockets.tls", &downstream_context(tls))
}

/// TLS termination for QUIC, which has its own ALPN protocols and supports TLS 1.3 only.
pub(super) fn downstream_quic(tls: &ir::ServerTls) -> TransportSocket {
    let tls = ir::ServerTls {
        alpn: Vec::new(),
        parameters: ir::TlsParameters::default(),
        ..tls.clone()
    };
    let context = QuicDownstreamTransport {
        downstream_tls_context: Some(downstream_context(&tls)),
        ..QuicDownstreamTransport::default()
    };
    socket("envoy.transport_sockets.quic", &context)
}

fn downstream_context(tls: &ir::ServerTls) -> DownstreamTlsContext {
    DownstreamTlsContext {
        common_tls_context: Some(common(
            Some(&tls.secret),
            tls.trusted.as_deref(),
            &tls.alpn,
            &tls.parameters,
        )),
        require_client_certificate: Some(super::boolean(tls.require_client_certificate)),
        ..DownstreamTlsContext::default()
    }
}

/// TLS origination.
pub(super) fn upstream(tls: &ir::ClientTls) -> TransportSocket {
    let context = UpstreamTlsContext {
        common_tls_context: Some(common(
            tls.certificate.as_deref(),
            tls.trusted.as_deref(),
            &tls.alpn,
            &tls.parameters,
        )),
        sni: tls.server_name.clone().unwrap_or_default(),
        ..UpstreamTlsContext::default()
    };
    socket("envoy.transport_sockets.tls", &context)
}

fn socket<M: Message + Name>(name: &str, context: &M) -> TransportSocket {
    TransportSocket {
        name: name.to_owned(),
        config_type: Some(ConfigType::TypedConfig(super::any(context))),
    }
}

fn common(
    certificate: Option<&str>,
    trusted: Option<&str>,
    alpn: &[String],
    parameters: &ir::TlsParameters,
) -> CommonTlsContext {
    let secret = |name: &str| SdsSecretConfig {
        name: name.to_owned(),
        sds_config: Some(super::ads()),
    };
    CommonTlsContext {
        tls_params: (*parameters != ir::TlsParameters::default()).then(|| TlsParameters {
            tls_minimum_protocol_version: version(parameters.min).into(),
            tls_maximum_protocol_version: version(parameters.max).into(),
            cipher_suites: parameters.ciphers.clone(),
            ecdh_curves: parameters.curves.clone(),
            ..TlsParameters::default()
        }),
        tls_certificate_sds_secret_configs: certificate.map(secret).into_iter().collect(),
        validation_context_type: trusted
            .map(|name| ValidationContextType::ValidationContextSdsSecretConfig(secret(name))),
        alpn_protocols: alpn.to_vec(),
        ..CommonTlsContext::default()
    }
}

fn version(version: Option<TlsVersion>) -> TlsProtocol {
    match version {
        None => TlsProtocol::TlsAuto,
        Some(TlsVersion::V1_0) => TlsProtocol::TlSv10,
        Some(TlsVersion::V1_1) => TlsProtocol::TlSv11,
        Some(TlsVersion::V1_2) => TlsProtocol::TlSv12,
        Some(TlsVersion::V1_3) => TlsProtocol::TlSv13,
    }
}
