//! A backend to try a gateway with: an HTTP server that answers every request with JSON, the name of the backend and the request
//! as it arrived, so that routing, rewrites and added headers can be seen with curl.

use std::{collections::BTreeMap, future::Future, net::SocketAddr, sync::Arc};

use anyhow::Context as _;
use axum::{
    Router,
    extract::{Request, State},
    http::header,
    response::{IntoResponse, Response},
};
use serde::Serialize;
use tokio::net::TcpListener;

use crate::run::Tasks;

/// The answer to a request.
#[derive(Serialize)]
struct Echo<'a> {
    backend: &'a str,
    method: &'a str,
    path: &'a str,
    /// Values of a repeated header are joined by commas.
    headers: BTreeMap<&'a str, String>,
}

/// Answers on `address` as the backend `name` until SIGINT or SIGTERM.
///
/// # Errors
/// The address cannot be bound, or the socket failed.
pub async fn run(name: String, address: SocketAddr) -> anyhow::Result<()> {
    let listener = TcpListener::bind(address).await.with_context(|| {
        format!("cannot listen on {address}; set another address with --address")
    })?;
    let mut tasks = Tasks::new();
    let stop = tasks.stop.clone();
    tasks.start("backend", async move {
        serve(listener, name, stop.cancelled_owned())
            .await
            .map_err(Into::into)
    });
    tasks.finish().await
}

/// Answers on `listener` as the backend `name` until `shutdown` completes.
///
/// # Errors
/// The socket failed.
pub async fn serve(
    listener: TcpListener,
    name: impl Into<Arc<str>>,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> std::io::Result<()> {
    let name: Arc<str> = name.into();
    let router = Router::new().fallback(echo).with_state(name);
    axum::serve(listener, router)
        .with_graceful_shutdown(shutdown)
        .await
}

async fn echo(State(name): State<Arc<str>>, request: Request) -> Response {
    let mut headers: BTreeMap<&str, String> = BTreeMap::new();
    for (header, value) in request.headers() {
        let value = String::from_utf8_lossy(value.as_bytes());
        headers
            .entry(header.as_str())
            .and_modify(|values| {
                values.push_str(", ");
                values.push_str(&value);
            })
            .or_insert_with(|| value.clone().into_owned());
    }
    let uri = request.uri();
    let echo = Echo {
        backend: &name,
        method: request.method().as_str(),
        path: uri.path_and_query().map_or("/", |path| path.as_str()),
        headers,
    };
    let mut body = serde_json::to_string_pretty(&echo).expect("strings are valid JSON");
    body.push('\n');
    ([(header::CONTENT_TYPE, "application/json")], body).into_response()
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    #[tokio::test]
    async fn the_response_names_the_backend_and_the_request() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(serve(listener, "quote", std::future::pending()));
        let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
        let request = "PUT /a/b?c=d HTTP/1.1\r\nhost: x\r\nx-one: 1\r\nx-one: 2\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        let (_head, body) = answer.split_once("\r\n\r\n").unwrap();
        let value: serde_json::Value = serde_json::from_str(body).unwrap();
        assert_eq!(value["backend"], "quote");
        assert_eq!(value["method"], "PUT");
        assert_eq!(value["path"], "/a/b?c=d");
        assert_eq!(value["headers"]["x-one"], "1, 2");
    }
}
