//! Queries over HTTP, and the two kinds of gRPC that are made for HTTP/1.1.

use anyhow::{Result, bail};
use bytes::Bytes;
use http::{HeaderMap, Request, Uri, Version, header, request::Builder};
use http_body_util::{BodyExt as _, Collected, Full};
use hyper::{
    Response,
    body::Incoming,
    client::conn::{http1, http2},
};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::{task::JoinSet, time::timeout};

use super::{
    grpc,
    query::{Kind, Query},
    result::{self, Object},
    transport::{self, PATIENCE, Stream},
};
use crate::header::LIMIT;

/// An answer, whole.
pub(super) type Answer = Response<Collected<Bytes>>;

/// The result of a query. Redirects are not followed.
pub(super) async fn answer(query: &Query) -> Result<Object> {
    let start = result::now();
    let body = match query.kind {
        Kind::Bridge => grpc::bridge_request()?,
        Kind::Web => grpc::web_request()?,
        Kind::Http | Kind::Real | Kind::Websocket => query.body.clone(),
    };
    let exchange = async {
        let connection = transport::connect(query, &["h2", "http/1.1"]).await?;
        let http2 = connection.session.as_ref();
        let http2 = http2.is_some_and(|session| session.protocol.as_deref() == Some(b"h2"));
        let answer = if http2 {
            over_http2(connection.stream, query, query.headers.clone(), body).await?
        } else {
            over_http1(connection.stream, query, body).await?
        };
        anyhow::Ok((answer, connection.session))
    };
    let Ok(exchanged) = timeout(PATIENCE, exchange).await else {
        bail!("no answer within {PATIENCE:?}");
    };
    let (answer, session) = exchanged?;
    let (mut parts, body) = answer.into_parts();
    let body = body.to_bytes();
    parts.headers.remove(header::TRANSFER_ENCODING);
    let mut text = None;
    match query.kind {
        Kind::Bridge => text = grpc::bridge_response(&body)?,
        Kind::Web => text = grpc::web_response(&body, &mut parts.headers)?,
        Kind::Http | Kind::Real | Kind::Websocket => {}
    }
    let mut result = result::head(parts.status, &parts.headers, &start);
    result::body(&mut result, &body);
    if let Some(text) = text {
        result.remove("json");
        result.insert("text".to_owned(), text);
    }
    if let Some(session) = session {
        session.report(&mut result);
    }
    Ok(result)
}

async fn over_http1(stream: Box<dyn Stream>, query: &Query, body: Bytes) -> Result<Answer> {
    let mut builder = http1::Builder::new();
    builder.title_case_headers(true);
    let (mut sender, connection) = builder.handshake(TokioIo::new(stream)).await?;
    let mut driver = JoinSet::new();
    driver.spawn(connection);
    let mut request = Request::builder().uri(query.target());
    request = request.header(header::HOST, &query.host);
    let request = fill(request, query, query.headers.clone(), body)?;
    let response = exchange(&mut driver, sender.send_request(request)).await?;
    let (parts, body) = response.into_parts();
    Ok(Response::from_parts(parts, body.collect().await?))
}

/// One request over HTTP/2, with these headers and no others.
pub(super) async fn over_http2(
    stream: Box<dyn Stream>,
    query: &Query,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Answer> {
    let mut builder = http2::Builder::new(TokioExecutor::new());
    builder.max_header_list_size(LIMIT);
    let (mut sender, connection) = builder.handshake(TokioIo::new(stream)).await?;
    let mut driver = JoinSet::new();
    driver.spawn(connection);
    let scheme = if query.is_secure() { "https" } else { "http" };
    let uri = Uri::builder()
        .scheme(scheme)
        .authority(query.host.as_str())
        .path_and_query(query.target())
        .build()?;
    let request = Request::builder().uri(uri).version(Version::HTTP_2);
    let request = fill(request, query, headers, body)?;
    let response = exchange(&mut driver, sender.send_request(request)).await?;
    let (parts, body) = response.into_parts();
    Ok(Response::from_parts(parts, body.collect().await?))
}

/// Waits for the response. When the connection fails first, its error says why, and that of the request need not.
async fn exchange(
    driver: &mut JoinSet<hyper::Result<()>>,
    response: impl Future<Output = hyper::Result<Response<Incoming>>>,
) -> Result<Response<Incoming>> {
    tokio::select! {
        biased;
        response = response => match response {
            Err(error) if error.is_canceled() => match driver.join_next().await {
                Some(Ok(Err(reason))) => Err(reason.into()),
                _ => Err(error.into()),
            },
            response => Ok(response?),
        },
        Some(Ok(Err(reason))) = driver.join_next() => Err(reason.into()),
    }
}

fn fill(
    request: Builder,
    query: &Query,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Request<Full<Bytes>>> {
    let mut request = request.method(query.method.clone()).body(Full::new(body))?;
    request.headers_mut().extend(headers);
    let agent = header::HeaderValue::from_static("kat-client");
    request
        .headers_mut()
        .entry(header::USER_AGENT)
        .or_insert(agent);
    Ok(request)
}
