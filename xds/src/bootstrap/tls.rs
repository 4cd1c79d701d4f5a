//! The certificates of Envoy's connection to the control plane.

use std::{
    net::IpAddr,
    path::{Path, PathBuf},
};

use serde_json::{Value, json};

/// Where Envoy reads certificates. It reloads them when they change, without closing a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Tls {
    /// PEM files named in the bootstrap.
    Files(TlsFiles),
    /// Files with secrets.
    Sds(SdsFiles),
}

/// Paths of PEM files on Envoy's machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsFiles {
    /// CA certificates that the control plane's certificate is verified with.
    pub ca: PathBuf,
    /// Envoy's certificate chain.
    pub certificate: PathBuf,
    /// Envoy's private key.
    pub key: PathBuf,
}

/// Paths of files with one secret each, in JSON (`*.json`). A file is replaced by a rename, so that Envoy never reads a part
/// of it, nor a certificate with the key of another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SdsFiles {
    /// File of [`certificate_secret`](Self::certificate_secret) or [`certificate_from`](Self::certificate_from).
    pub certificate: PathBuf,
    /// File of [`ca_secret`](Self::ca_secret) or [`ca_from`](Self::ca_from).
    pub ca: PathBuf,
}

/// Names of the secrets.
const CERTIFICATE: &str = "certificate";
const CA: &str = "ca";

impl Tls {
    /// The TLS settings of a connection to this host.
    pub(super) fn common_tls_context(&self, host: &str) -> Value {
        let kind = if host.parse::<IpAddr>().is_ok() {
            "IP_ADDRESS"
        } else {
            "DNS"
        };
        let name = json!({"san_type": kind, "matcher": {"exact": host}});
        let mut context = match self {
            Self::Files(files) => json!({
                "tls_certificates": [files.tls_certificate()],
                "validation_context": files.trusted_ca()
            }),
            Self::Sds(files) => json!({
                "tls_certificate_sds_secret_configs": [secret_in(CERTIFICATE, &files.certificate)],
                "combined_validation_context": {
                    "default_validation_context": {},
                    "validation_context_sds_secret_config": secret_in(CA, &files.ca)
                }
            }),
        };
        let validation = match self {
            Self::Files(_) => &mut context["validation_context"],
            Self::Sds(_) => {
                &mut context["combined_validation_context"]["default_validation_context"]
            }
        };
        validation["match_typed_subject_alt_names"] = json!([name]);
        context["tls_params"] = json!({
            "tls_minimum_protocol_version": "TLSv1_3", "tls_maximum_protocol_version": "TLSv1_3"
        });
        context
    }
}

fn secret_in(name: &str, path: &Path) -> Value {
    json!({"name": name, "sds_config": {"path_config_source": {"path": path}, "resource_api_version": "V3"}})
}

impl TlsFiles {
    fn tls_certificate(&self) -> Value {
        json!({
            "certificate_chain": {"filename": self.certificate},
            "private_key": {"filename": self.key},
            "watched_directory": folder(&self.certificate)
        })
    }

    fn trusted_ca(&self) -> Value {
        json!({"trusted_ca": {"filename": self.ca}, "watched_directory": folder(&self.ca)})
    }
}

/// The directory that Envoy watches: files of a volume are replaced by renaming a link beside them.
fn folder(path: &Path) -> Option<Value> {
    path.parent().map(|folder| json!({"path": folder}))
}

impl SdsFiles {
    /// The secret of a certificate chain and its private key, PEM.
    #[must_use]
    pub fn certificate_secret(chain: &str, key: &str) -> Value {
        let certificate = json!({"certificate_chain": {"inline_string": chain}, "private_key": {"inline_string": key}});
        secret(CERTIFICATE, "tls_certificate", certificate)
    }

    /// The secret of the certificate and key in these files.
    #[must_use]
    pub fn certificate_from(files: &TlsFiles) -> Value {
        secret(CERTIFICATE, "tls_certificate", files.tls_certificate())
    }

    /// The secret of these CA certificates, PEM.
    #[must_use]
    pub fn ca_secret(certificates: &str) -> Value {
        let context = json!({"trusted_ca": {"inline_string": certificates}});
        secret(CA, "validation_context", context)
    }

    /// The secret of the CA certificates in these files.
    #[must_use]
    pub fn ca_from(files: &TlsFiles) -> Value {
        secret(CA, "validation_context", files.trusted_ca())
    }
}

#[expect(
    clippy::needless_pass_by_value,
    reason = "a value made for this message"
)]
fn secret(name: &str, kind: &str, content: Value) -> Value {
    json!({"resources": [{
        "@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret",
        "name": name,
        kind: content
    }]})
}
