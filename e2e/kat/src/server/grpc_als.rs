//! The `grpc_als` backend: an access log server that shows what was logged.

use std::sync::{Arc, Mutex, PoisonError};

use axum::{
    Router,
    extract::State,
    http::{StatusCode, header::CONTENT_TYPE},
    response::IntoResponse,
    routing::get,
};
use envoy_types::pb::envoy::service::accesslog::v3::{
    StreamAccessLogsMessage, StreamAccessLogsResponse,
    access_log_service_server::{AccessLogService, AccessLogServiceServer},
    stream_access_logs_message::LogEntries,
};
use serde_json::{Value, json};
use tonic::{Request, Response, Status, Streaming};

use super::version::{ApiVersion, Method};

mod entry;

const STREAM: Method = Method("accesslog", "AccessLogService/StreamAccessLogs");

/// An access log server: `GET /logs` shows what was logged, `DELETE /logs` forgets it.
///
/// The entries have the fields that tests look at, not all of them.
#[derive(Clone, Debug, Default)]
pub struct GrpcAls {
    v2: Log,
    v3: Log,
}

/// What was logged in one version of the API.
#[derive(Clone, Debug, Default)]
struct Log {
    http: Arc<Mutex<Vec<Value>>>,
    tcp: Arc<Mutex<Vec<Value>>>,
}

impl GrpcAls {
    /// The backend.
    pub fn router(self) -> Router {
        let logs = get(show).delete(forget);
        let router = Router::new().route("/logs", logs).with_state(self.clone());
        let (v2, v3) = (
            AccessLogServiceServer::new(self.v2),
            AccessLogServiceServer::new(self.v3),
        );
        let router = STREAM.serve(router, ApiVersion::V2, v2);
        STREAM.serve(router, ApiVersion::V3, v3)
    }
}

async fn show(State(logs): State<GrpcAls>) -> impl IntoResponse {
    let logs = json!({
        "alsv2-http": list(&logs.v2.http),
        "alsv2-tcp": list(&logs.v2.tcp),
        "alsv3-http": list(&logs.v3.http),
        "alsv3-tcp": list(&logs.v3.tcp),
    });
    ([(CONTENT_TYPE, "application/json")], logs.to_string())
}

async fn forget(State(logs): State<GrpcAls>) -> StatusCode {
    for entries in [logs.v2.http, logs.v2.tcp, logs.v3.http, logs.v3.tcp] {
        entries
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clear();
    }
    StatusCode::OK
}

/// The entries, or null if there are none.
fn list(entries: &Mutex<Vec<Value>>) -> Option<Vec<Value>> {
    let entries = entries.lock().unwrap_or_else(PoisonError::into_inner);
    (!entries.is_empty()).then(|| entries.clone())
}

#[tonic::async_trait]
impl AccessLogService for Log {
    async fn stream_access_logs(
        &self,
        request: Request<Streaming<StreamAccessLogsMessage>>,
    ) -> Result<Response<StreamAccessLogsResponse>, Status> {
        let mut messages = request.into_inner();
        while let Some(message) = messages.message().await? {
            let (log, entries): (_, Vec<Value>) = match message.log_entries {
                Some(LogEntries::HttpLogs(logs)) => {
                    (&self.http, logs.log_entry.iter().map(entry::http).collect())
                }
                Some(LogEntries::TcpLogs(logs)) => {
                    (&self.tcp, logs.log_entry.iter().map(entry::tcp).collect())
                }
                None => continue,
            };
            let mut log = log.lock().unwrap_or_else(PoisonError::into_inner);
            log.extend(entries);
        }
        Ok(Response::new(StreamAccessLogsResponse {}))
    }
}
