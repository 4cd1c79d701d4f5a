//! `envoy.extensions.transport_sockets.tls.v3.Secret`

use crate::{
    ir,
    pb::envoy::{
        config::core::v3::{DataSource, data_source::Specifier},
        extensions::transport_sockets::tls::v3::{Secret, TlsCertificate, secret},
    },
};

/// A certificate with its key, both inline: Envoy gets them over the ADS stream only.
pub(super) fn secret(secret: &ir::Secret) -> Secret {
    Secret {
        name: secret.name.to_string(),
        r#type: Some(secret::Type::TlsCertificate(TlsCertificate {
            certificate_chain: Some(inline(&secret.certificate_chain)),
            private_key: Some(inline(&secret.private_key)),
            ..TlsCertificate::default()
        })),
    }
}

fn inline(pem: &str) -> DataSource {
    DataSource {
        specifier: Some(Specifier::InlineString(pem.to_owned())),
        ..DataSource::default()
    }
}
