//! A query: the checked content of the JSON object.

use std::{collections::BTreeMap, sync::Arc};

use anyhow::{Context as _, Result, bail};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Uri};
use rustls::sign::CertifiedKey;
use serde::Deserialize;
use serde_json::Value;

use super::tls;

/// The JSON, as far as it is understood.
#[derive(Deserialize)]
#[serde(default, rename_all = "camelCase")]
#[derive(Default)]
struct Fields {
    url: String,
    method: String,
    headers: BTreeMap<String, String>,
    body: String,
    cookies: Vec<Cookie>,
    insecure: bool,
    sni: bool,
    #[serde(rename = "ca_cert")]
    ca_cert: String,
    #[serde(rename = "client_cert")]
    client_cert: String,
    #[serde(rename = "client_key")]
    client_key: String,
    #[serde(rename = "minTLSv")]
    min_tls: String,
    #[serde(rename = "maxTLSv")]
    max_tls: String,
    cipher_suites: Vec<String>,
    ecdh_curves: Vec<String>,
    #[serde(rename = "grpc_type")]
    grpc_type: String,
    messages: Option<Vec<String>>,
}

#[derive(Deserialize)]
struct Cookie {
    name: String,
    value: String,
}

/// What is spoken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// HTTP.
    Http,
    /// gRPC.
    Real,
    /// gRPC in HTTP/1.1, for Envoy to translate.
    Bridge,
    /// gRPC-Web.
    Web,
    /// A websocket.
    Websocket,
}

/// A query.
#[derive(Clone, Debug)]
pub(super) struct Query {
    pub(super) kind: Kind,
    pub(super) url: Uri,
    pub(super) method: Method,
    /// The host to ask for, which need not be the one that is connected to.
    pub(super) host: String,
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
    pub(super) messages: Option<Vec<String>>,
    pub(super) tls: Tls,
}

/// How TLS is to be spoken.
#[derive(Clone, Debug, Default)]
pub(super) struct Tls {
    pub(super) insecure: bool,
    /// Name to ask for and to expect, if it is not the one of the URL.
    pub(super) server_name: Option<String>,
    /// The only trusted authorities, PEM; the system's, if there is none.
    pub(super) authorities: Option<String>,
    pub(super) identity: Option<Arc<CertifiedKey>>,
    pub(super) min: String,
    pub(super) max: String,
    pub(super) cipher_suites: Vec<String>,
    pub(super) curves: Vec<String>,
}

impl Query {
    /// Understands a JSON object.
    pub(super) fn parse(object: &Value) -> Result<Self> {
        let mut object = object.clone();
        if let Some(fields) = object.as_object_mut() {
            // null equals absent
            fields.retain(|_, value| !value.is_null());
        }
        let fields: Fields = serde_json::from_value(object)?;
        let url: Uri = fields
            .url
            .parse()
            .with_context(|| format!("url {:?}", fields.url))?;
        let authority = url
            .authority()
            .with_context(|| format!("{url} has no host"))?;
        let kind = match (url.scheme_str(), fields.grpc_type.as_str()) {
            (Some("ws" | "wss"), _) => Kind::Websocket,
            (Some("http" | "https"), "real") => Kind::Real,
            (Some("http" | "https"), "bridge") => Kind::Bridge,
            (Some("http" | "https"), "web") => Kind::Web,
            (Some("http" | "https"), "") => Kind::Http,
            _ => bail!("{url}: unknown scheme or grpc_type"),
        };
        let method = match (kind, fields.method.as_str()) {
            (Kind::Bridge | Kind::Web | Kind::Real, _) => Method::POST,
            (_, "") => Method::GET,
            (_, method) => method.parse()?,
        };
        let (user, place) = authority.as_str().rsplit_once('@').unzip();
        let (host, mut headers) = headers(&fields.headers, &fields.cookies)?;
        if let Some(user) = user
            && !headers.contains_key(http::header::AUTHORIZATION)
        {
            let basic = format!("Basic {}", BASE64_STANDARD.encode(user));
            headers.insert(http::header::AUTHORIZATION, basic.parse()?);
        }
        let has_identity = !fields.client_cert.is_empty() || !fields.client_key.is_empty();
        let identity = has_identity
            .then(|| tls::identity(&fields.client_cert, &fields.client_key))
            .transpose()?;
        Ok(Self {
            kind,
            method,
            body: BASE64_STANDARD.decode(fields.body).context("body")?.into(),
            messages: fields.messages,
            tls: Tls {
                insecure: fields.insecure,
                server_name: host.clone().filter(|_| fields.sni),
                authorities: Some(fields.ca_cert).filter(|pem| !pem.is_empty()),
                identity,
                min: fields.min_tls,
                max: fields.max_tls,
                cipher_suites: fields.cipher_suites,
                curves: fields.ecdh_curves,
            },
            host: host.unwrap_or_else(|| place.unwrap_or(authority.as_str()).to_owned()),
            headers,
            url,
        })
    }

    /// The path and query of the URL.
    pub(super) fn target(&self) -> &str {
        self.url
            .path_and_query()
            .map_or("/", |target| target.as_str())
    }

    /// Whether TLS is spoken.
    pub(super) fn is_secure(&self) -> bool {
        matches!(self.url.scheme_str(), Some("https" | "wss"))
    }
}

/// The host, and the other headers.
fn headers(
    fields: &BTreeMap<String, String>,
    cookies: &[Cookie],
) -> Result<(Option<String>, HeaderMap)> {
    let mut headers = HeaderMap::new();
    let mut host = None;
    for (name, value) in fields {
        if name.eq_ignore_ascii_case("host") {
            host = Some(value.clone());
            continue;
        }
        let name: HeaderName = name.parse().with_context(|| format!("header {name:?}"))?;
        let value = HeaderValue::from_bytes(value.as_bytes());
        headers.append(&name, value.with_context(|| format!("header {name}"))?);
    }
    if !cookies.is_empty() {
        let mut crumbs: Vec<_> = headers
            .get(http::header::COOKIE)
            .into_iter()
            .map(crate::header::text)
            .collect();
        crumbs.extend(
            cookies
                .iter()
                .map(|cookie| format!("{}={}", cookie.name, cookie.value)),
        );
        headers.insert(http::header::COOKIE, crumbs.join("; ").parse()?);
    }
    Ok((host, headers))
}
