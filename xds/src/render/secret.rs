//! `envoy.extensions.transport_sockets.tls.v3.Secret`

use crate::{
    ir::{self, SecretContent},
    pb::envoy::{
        config::core::v3::{DataSource, data_source::Specifier},
        extensions::transport_sockets::tls::v3::{
            CertificateValidationContext, Secret, TlsCertificate, secret,
        },
    },
};

/// A secret with inline content: Envoy gets it over the ADS stream only.
pub(super) fn secret(secret: &ir::Secret) -> Secret {
    Secret {
        name: secret.name.to_string(),
        r#type: Some(match &secret.content {
            SecretContent::Certificate { chain, private_key } => {
                secret::Type::TlsCertificate(TlsCertificate {
                    certificate_chain: Some(inline(chain)),
                    private_key: Some(inline(private_key)),
                    ..TlsCertificate::default()
                })
            }
            SecretContent::Validation { trusted, revoked } => {
                secret::Type::ValidationContext(CertificateValidationContext {
                    trusted_ca: Some(inline(trusted)),
                    crl: revoked.as_deref().map(inline),
                    ..CertificateValidationContext::default()
                })
            }
        }),
    }
}

fn inline(pem: &str) -> DataSource {
    DataSource {
        specifier: Some(Specifier::InlineString(pem.to_owned())),
        ..DataSource::default()
    }
}
