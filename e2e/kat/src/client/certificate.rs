//! Certificates in the JSON form of Go's `x509.Certificate`.
//!
//! `SerialNumber` is a number as far as JSON numbers go here, 64 bits, and else a string of digits; `PublicKey` is null
//! (`RawSubjectPublicKeyInfo` has it); name constraints and policies are in `Extensions` only.

use std::net::{Ipv4Addr, Ipv6Addr};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use jiff::Timestamp;
use serde_json::{Value, json};
use x509_parser::{
    certificate::X509Certificate,
    der_parser::oid::Oid,
    extensions::{ExtendedKeyUsage, GeneralName, ParsedExtension},
    parse_x509_certificate,
    time::ASN1Time,
    x509::X509Name,
};

/// A certificate, DER, as JSON.
pub(super) fn to_json(der: &[u8]) -> Value {
    let Ok((_, certificate)) = parse_x509_certificate(der) else {
        return json!({"Raw": base64(der)});
    };
    let tbs = &certificate.tbs_certificate;
    let mut object = json!({
        "Raw": base64(der),
        "RawTBSCertificate": base64(tbs.as_ref()),
        "RawSubjectPublicKeyInfo": base64(tbs.subject_pki.raw),
        "RawSubject": base64(tbs.subject.as_raw()),
        "RawIssuer": base64(tbs.issuer.as_raw()),
        "Signature": base64(&certificate.signature_value.data),
        "SignatureAlgorithm": signature_algorithm(&certificate.signature_algorithm.algorithm),
        "PublicKeyAlgorithm": public_key_algorithm(&tbs.subject_pki.algorithm.algorithm),
        "PublicKey": null,
        "Version": tbs.version.0 + 1,
        "SerialNumber": serial_number(&certificate),
        "Issuer": name(&tbs.issuer),
        "Subject": name(&tbs.subject),
        "NotBefore": time(tbs.validity.not_before),
        "NotAfter": time(tbs.validity.not_after),
        "KeyUsage": 0,
        "Extensions": extensions(&certificate),
        "ExtraExtensions": null,
        "UnhandledCriticalExtensions": null,
        "ExtKeyUsage": null,
        "UnknownExtKeyUsage": null,
        "BasicConstraintsValid": false,
        "IsCA": false,
        "MaxPathLen": 0,
        "MaxPathLenZero": false,
        "SubjectKeyId": null,
        "AuthorityKeyId": null,
        "DNSNames": null,
        "EmailAddresses": null,
        "IPAddresses": null,
        "URIs": null,
    });
    for extension in tbs.extensions() {
        understand(&mut object, extension.parsed_extension());
    }
    object
}

fn understand(object: &mut Value, extension: &ParsedExtension<'_>) {
    match extension {
        ParsedExtension::KeyUsage(usage) => object["KeyUsage"] = usage.flags.into(),
        ParsedExtension::ExtendedKeyUsage(usage) => {
            object["ExtKeyUsage"] = extended_key_usage(usage).into();
        }
        ParsedExtension::BasicConstraints(constraints) => {
            let length = constraints.path_len_constraint;
            object["BasicConstraintsValid"] = true.into();
            object["IsCA"] = constraints.ca.into();
            object["MaxPathLen"] = length.map_or(-1, i64::from).into();
            object["MaxPathLenZero"] = (length == Some(0)).into();
        }
        ParsedExtension::SubjectKeyIdentifier(id) => object["SubjectKeyId"] = base64(id.0),
        ParsedExtension::AuthorityKeyIdentifier(authority) => {
            if let Some(id) = &authority.key_identifier {
                object["AuthorityKeyId"] = base64(id.0);
            }
        }
        ParsedExtension::SubjectAlternativeName(names) => {
            for name in &names.general_names {
                let (list, value) = match name {
                    GeneralName::DNSName(name) => ("DNSNames", (*name).to_owned()),
                    GeneralName::RFC822Name(name) => ("EmailAddresses", (*name).to_owned()),
                    GeneralName::URI(uri) => ("URIs", (*uri).to_owned()),
                    GeneralName::IPAddress(bytes) => match address(bytes) {
                        Some(address) => ("IPAddresses", address),
                        None => continue,
                    },
                    _ => continue,
                };
                push(&mut object[list], value.into());
            }
        }
        _ => {}
    }
}

fn base64(bytes: &[u8]) -> Value {
    BASE64_STANDARD.encode(bytes).into()
}

fn push(list: &mut Value, value: Value) {
    match list {
        Value::Array(values) => values.push(value),
        _ => *list = Value::Array(vec![value]),
    }
}

fn address(bytes: &[u8]) -> Option<String> {
    let v4 = <[u8; 4]>::try_from(bytes).map(|octets| Ipv4Addr::from(octets).to_string());
    let v6 = <[u8; 16]>::try_from(bytes).map(|octets| Ipv6Addr::from(octets).to_string());
    v4.or(v6).ok()
}

fn time(time: ASN1Time) -> Value {
    let time = Timestamp::from_second(time.timestamp());
    time.map_or(Value::Null, |time| time.to_string().into())
}

fn serial_number(certificate: &X509Certificate<'_>) -> Value {
    let digits = certificate.tbs_certificate.serial.to_string();
    match digits.parse::<u64>() {
        Ok(number) => number.into(),
        Err(_larger) => digits.into(),
    }
}

fn numbers(oid: &Oid<'_>) -> Value {
    let numbers = oid.iter().map(|numbers| numbers.collect::<Vec<u64>>());
    json!(numbers.unwrap_or_default())
}

fn extensions(certificate: &X509Certificate<'_>) -> Vec<Value> {
    let extensions = certificate.tbs_certificate.extensions().iter();
    let describe = extensions.map(|extension| {
        json!({
            "Id": numbers(&extension.oid),
            "Critical": extension.critical,
            "Value": base64(extension.value),
        })
    });
    describe.collect()
}

/// A distinguished name, as `pkix.Name`.
fn name(name: &X509Name<'_>) -> Value {
    let mut object = json!({
        "Country": null,
        "Organization": null,
        "OrganizationalUnit": null,
        "Locality": null,
        "Province": null,
        "StreetAddress": null,
        "PostalCode": null,
        "SerialNumber": "",
        "CommonName": "",
        "Names": null,
        "ExtraNames": null,
    });
    for attribute in name.iter_attributes() {
        let Ok(value) = attribute.as_str() else {
            continue;
        };
        let oid = attribute.attr_type();
        push(
            &mut object["Names"],
            json!({"Type": numbers(oid), "Value": value}),
        );
        match oid.to_id_string().as_str() {
            "2.5.4.3" => object["CommonName"] = value.into(),
            "2.5.4.5" => object["SerialNumber"] = value.into(),
            "2.5.4.6" => push(&mut object["Country"], value.into()),
            "2.5.4.7" => push(&mut object["Locality"], value.into()),
            "2.5.4.8" => push(&mut object["Province"], value.into()),
            "2.5.4.9" => push(&mut object["StreetAddress"], value.into()),
            "2.5.4.10" => push(&mut object["Organization"], value.into()),
            "2.5.4.11" => push(&mut object["OrganizationalUnit"], value.into()),
            "2.5.4.17" => push(&mut object["PostalCode"], value.into()),
            _ => {}
        }
    }
    object
}

/// `x509.SignatureAlgorithm`; RSA-PSS, whose hash is a parameter, is unknown.
fn signature_algorithm(oid: &Oid<'_>) -> u8 {
    match oid.to_id_string().as_str() {
        "1.2.840.113549.1.1.5" => 3,
        "1.2.840.113549.1.1.11" => 4,
        "1.2.840.113549.1.1.12" => 5,
        "1.2.840.113549.1.1.13" => 6,
        "1.2.840.10045.4.1" => 9,
        "1.2.840.10045.4.3.2" => 10,
        "1.2.840.10045.4.3.3" => 11,
        "1.2.840.10045.4.3.4" => 12,
        "1.3.101.112" => 16,
        _ => 0,
    }
}

/// `x509.PublicKeyAlgorithm`.
fn public_key_algorithm(oid: &Oid<'_>) -> u8 {
    match oid.to_id_string().as_str() {
        "1.2.840.113549.1.1.1" => 1,
        "1.2.840.10040.4.1" => 2,
        "1.2.840.10045.2.1" => 3,
        "1.3.101.112" => 4,
        _ => 0,
    }
}

/// Numbers of `x509.ExtKeyUsage`.
fn extended_key_usage(usage: &ExtendedKeyUsage<'_>) -> Vec<u8> {
    let known = [
        (usage.any, 0),
        (usage.server_auth, 1),
        (usage.client_auth, 2),
        (usage.code_signing, 3),
        (usage.email_protection, 4),
        (usage.time_stamping, 8),
        (usage.ocsp_signing, 9),
    ];
    let known = known.into_iter().filter(|(is_set, _)| *is_set);
    known.map(|(_, number)| number).collect()
}
