//! gRPC over HTTP/2.

use anyhow::{Result, ensure};
use http::{HeaderMap, HeaderValue, header};
use percent_encoding::percent_decode_str;
use serde_json::json;
use tokio::time::timeout;
use tonic::Code;

use super::{
    grpc,
    http::{Answer, over_http2},
    query::{Query, Tls},
    result::Object,
    transport::{self, PATIENCE},
};
use crate::{
    echo::{EchoRequest, PATH},
    frame::{self, Frame},
    header::text,
};

/// The result of a query. The system's authorities are trusted; the query cannot change that.
pub(super) async fn answer(query: &Query) -> Result<Object> {
    ensure!(
        query.url.path() == PATH,
        "the path of a gRPC query is {PATH}, not {}",
        query.url.path()
    );
    let query = Query {
        tls: Tls::default(),
        ..query.clone()
    };
    let called = match timeout(PATIENCE, call(&query)).await {
        Ok(called) => called?,
        Err(_elapsed) => Outcome {
            code: Code::DeadlineExceeded,
            message: "context deadline exceeded".to_owned(),
            answer: None,
        },
    };
    ensure!(
        called.code != Code::Unavailable,
        "rpc error: code = Unavailable desc = {}",
        called.message
    );
    let mut result = Object::new();
    result.insert("status".to_owned(), 200.into());
    result.insert("body".to_owned(), "".into());
    let code = i32::from(called.code).to_string();
    let headers = json!({"Grpc-Status": [code], "Grpc-Message": [called.message]});
    result.insert("headers".to_owned(), headers);
    if let Some(answer) = called.answer {
        result.insert("text".to_owned(), answer);
    }
    Ok(result)
}

/// How a call ended.
struct Outcome {
    code: Code,
    message: String,
    answer: Option<serde_json::Value>,
}

async fn call(query: &Query) -> Result<Outcome> {
    let connection = transport::connect(query, &["h2"]).await?;
    let mut headers = query.headers.clone();
    headers.insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("application/grpc"),
    );
    headers.insert(header::TE, HeaderValue::from_static("trailers"));
    let request = EchoRequest {
        data: "real gRPC".into(),
    };
    let body = frame::encode(&request)?;
    let answer = over_http2(connection.stream, query, headers, body).await?;
    outcome(answer)
}

fn outcome(answer: Answer) -> Result<Outcome> {
    let (parts, body) = answer.into_parts();
    // without a message the trailers may come as headers
    let trailers = body.trailers().unwrap_or(&parts.headers);
    let (code, message) = match status(trailers) {
        Some(status) => status,
        None => {
            let message = format!(
                "unexpected HTTP status code received from server: {}",
                parts.status
            );
            (of_http(parts.status.as_u16()), message)
        }
    };
    let mut answer = None;
    if code == Code::Ok {
        for frame in frame::decode(body.to_bytes())? {
            if let Frame::Message(message) = frame {
                answer = Some(grpc::decode(&message)?);
            }
        }
    }
    Ok(Outcome {
        code,
        message,
        answer,
    })
}

fn status(trailers: &HeaderMap) -> Option<(Code, String)> {
    let code = trailers.get("grpc-status")?.as_bytes();
    let message = trailers.get("grpc-message").map(text).unwrap_or_default();
    let message = percent_decode_str(&message)
        .decode_utf8_lossy()
        .into_owned();
    Some((Code::from_bytes(code), message))
}

/// The code for an answer that is not from a gRPC server.
///
/// <https://github.com/grpc/grpc/blob/master/doc/http-grpc-status-mapping.md>
fn of_http(status: u16) -> Code {
    match status {
        400 => Code::Internal,
        401 => Code::Unauthenticated,
        403 => Code::PermissionDenied,
        404 => Code::Unimplemented,
        429 | 502 | 503 | 504 => Code::Unavailable,
        _ => Code::Unknown,
    }
}
