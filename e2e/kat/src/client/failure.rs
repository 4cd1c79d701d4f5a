//! Failures, in the words of Go where tests look for them.

use std::io::ErrorKind;

use rustls::{AlertDescription, CertificateError};

use super::query::Query;

/// What went wrong with a query.
pub(super) fn describe(query: &Query, error: &anyhow::Error) -> String {
    let known = error.chain().find_map(words);
    let words = known.map_or_else(
        || format!("{error:#}"),
        |words| format!("{words} ({error:#})"),
    );
    let method = query.method.as_str();
    let (first, rest) = method.split_at(method.len().min(1));
    format!("{first}{} \"{}\": {words}", rest.to_lowercase(), query.url)
}

/// The text that Go has for it.
fn words(error: &(dyn std::error::Error + 'static)) -> Option<String> {
    if let Some(error) = error.downcast_ref::<rustls::Error>() {
        return of_tls(error);
    }
    if let Some(error) = error.downcast_ref::<hyper::Error>()
        && error.is_incomplete_message()
    {
        return Some("EOF".to_owned());
    }
    let error = error.downcast_ref::<std::io::Error>()?;
    if let Some(inner) = error.get_ref() {
        if let Some(error) = inner.downcast_ref::<rustls::Error>() {
            return of_tls(error);
        }
        if inner.to_string().contains("failed to lookup address") {
            return Some("no such host".to_owned());
        }
        if let Some(words) = inner.source().and_then(words) {
            return Some(words);
        }
    }
    Some(match error.kind() {
        ErrorKind::ConnectionRefused => "connection refused".to_owned(),
        ErrorKind::ConnectionReset => "connection reset by peer".to_owned(),
        ErrorKind::UnexpectedEof => "EOF".to_owned(),
        _ => return None,
    })
}

fn of_tls(error: &rustls::Error) -> Option<String> {
    Some(match error {
        rustls::Error::AlertReceived(alert) => {
            format!("remote error: tls: {}", alert_words(*alert)?)
        }
        rustls::Error::InvalidCertificate(reason) => {
            let reason = match reason {
                // an authority of the same name, with another key
                CertificateError::UnknownIssuer | CertificateError::BadSignature => {
                    "certificate signed by unknown authority"
                }
                CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
                    "certificate has expired or is not yet valid"
                }
                CertificateError::NotValidForName
                | CertificateError::NotValidForNameContext { .. } => {
                    "certificate is not valid for the name"
                }
                _ => return None,
            };
            format!("tls: failed to verify certificate: x509: {reason}")
        }
        _ => return None,
    })
}

fn alert_words(alert: AlertDescription) -> Option<&'static str> {
    Some(match alert {
        AlertDescription::HandshakeFailure => "handshake failure",
        AlertDescription::BadCertificate => "bad certificate",
        AlertDescription::UnsupportedCertificate => "unsupported certificate",
        AlertDescription::CertificateRevoked => "revoked certificate",
        AlertDescription::CertificateExpired => "expired certificate",
        AlertDescription::CertificateUnknown => "unknown certificate",
        AlertDescription::UnknownCA => "unknown certificate authority",
        AlertDescription::ProtocolVersion => "protocol version not supported",
        AlertDescription::InternalError => "internal error",
        AlertDescription::UnrecognisedName => "unrecognized name",
        AlertDescription::CertificateRequired => "certificate required",
        AlertDescription::NoApplicationProtocol => "no application protocol",
        _ => return None,
    })
}
