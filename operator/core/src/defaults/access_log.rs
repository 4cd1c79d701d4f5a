//! The access log that Envoy writes itself. Without a Module, it is Emissary's text to standard output.

use std::collections::BTreeMap;

use nuncio_ir::{AccessLog, LogFormat, LogValue};

/// Emissary's text format.
const TEXT: &str = r#"ACCESS [%START_TIME%] "%REQ(:METHOD)% %REQ(X-ENVOY-ORIGINAL-PATH?:PATH)% %PROTOCOL%" %RESPONSE_CODE% %RESPONSE_FLAGS% %BYTES_RECEIVED% %BYTES_SENT% %DURATION% %RESP(X-ENVOY-UPSTREAM-SERVICE-TIME)% "%REQ(X-FORWARDED-FOR)%" "%REQ(USER-AGENT)%" "%REQ(X-REQUEST-ID)%" "%REQ(:AUTHORITY)%" "%UPSTREAM_HOST%""#;

/// Emissary's JSON format.
const FIELDS: [(&str, &str); 22] = [
    ("start_time", "%START_TIME%"),
    ("method", "%REQ(:METHOD)%"),
    ("path", "%REQ(X-ENVOY-ORIGINAL-PATH?:PATH)%"),
    ("protocol", "%PROTOCOL%"),
    ("response_code", "%RESPONSE_CODE%"),
    ("response_flags", "%RESPONSE_FLAGS%"),
    ("bytes_received", "%BYTES_RECEIVED%"),
    ("bytes_sent", "%BYTES_SENT%"),
    ("duration", "%DURATION%"),
    (
        "upstream_service_time",
        "%RESP(X-ENVOY-UPSTREAM-SERVICE-TIME)%",
    ),
    ("x_forwarded_for", "%REQ(X-FORWARDED-FOR)%"),
    ("user_agent", "%REQ(USER-AGENT)%"),
    ("request_id", "%REQ(X-REQUEST-ID)%"),
    ("authority", "%REQ(:AUTHORITY)%"),
    ("upstream_host", "%UPSTREAM_HOST%"),
    ("upstream_cluster", "%UPSTREAM_CLUSTER%"),
    ("upstream_local_address", "%UPSTREAM_LOCAL_ADDRESS%"),
    ("downstream_local_address", "%DOWNSTREAM_LOCAL_ADDRESS%"),
    ("downstream_remote_address", "%DOWNSTREAM_REMOTE_ADDRESS%"),
    ("requested_server_name", "%REQUESTED_SERVER_NAME%"),
    (
        "istio_policy_status",
        "%DYNAMIC_METADATA(istio.mixer:status)%",
    ),
    (
        "upstream_transport_failure_reason",
        "%UPSTREAM_TRANSPORT_FAILURE_REASON%",
    ),
];

/// What the built-in JSON format has with Datadog.
const DATADOG: [(&str, &str); 2] = [
    ("dd.trace_id", "%REQ(X-DATADOG-TRACE-ID)%"),
    ("dd.span_id", "%REQ(X-DATADOG-PARENT-ID)%"),
];

/// The log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Log {
    /// Where it is written; `None`: nowhere.
    pub path: Option<&'static str>,
    /// What a line is.
    pub kind: LogKind,
    /// Format of a text line; `None`: the built-in one.
    pub text: Option<String>,
    /// Fields of a JSON line; `None`: the built-in ones.
    pub fields: Option<BTreeMap<String, LogValue>>,
}

/// What a line is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogKind {
    /// Text.
    Text,
    /// A JSON object.
    Json,
}

impl Default for Log {
    fn default() -> Self {
        Self {
            path: Some("/dev/stdout"),
            kind: LogKind::Text,
            text: None,
            fields: None,
        }
    }
}

impl Log {
    /// The access log of HTTP requests, which are traced by Datadog or not.
    #[must_use]
    pub fn access_log(&self, datadog: bool) -> Option<AccessLog> {
        let format = match self.kind {
            LogKind::Text => LogFormat::Text(format!("{}\n", self.text.as_deref().unwrap_or(TEXT))),
            LogKind::Json => {
                LogFormat::Json(self.fields.clone().unwrap_or_else(|| built_in(datadog)))
            }
        };
        Some(AccessLog::File {
            path: self.path?.to_owned(),
            format,
        })
    }
}

fn built_in(datadog: bool) -> BTreeMap<String, LogValue> {
    let more = DATADOG.iter().filter(|_| datadog);
    FIELDS
        .iter()
        .chain(more)
        .map(|(name, operator)| ((*name).to_owned(), LogValue::Text((*operator).to_owned())))
        .collect()
}
