//! Websockets: all messages are sent, and all are collected that come back until the other side closes.

use anyhow::{Context as _, Result, bail};
use futures::{SinkExt as _, StreamExt as _};
use http::StatusCode;
use tokio::time::timeout;
use tokio_tungstenite::{
    WebSocketStream, client_async,
    tungstenite::{
        Error, Message,
        client::IntoClientRequest as _,
        error::ProtocolError,
        handshake::client::Request,
        protocol::{CloseFrame, frame::coding::CloseCode},
    },
};

use super::{
    query::Query,
    result::{self, Object},
    transport::{self, PATIENCE, Stream},
};

/// The result of a query.
pub(super) async fn answer(query: &Query) -> Result<Object> {
    let start = result::now();
    let messages = query
        .messages
        .as_ref()
        .context("a websocket query needs messages")?;
    let open = async {
        let connection = transport::connect(query, &["http/1.1"]).await?;
        let opened = client_async(request(query)?, connection.stream).await;
        anyhow::Ok((opened, connection.session))
    };
    let Ok(opened) = timeout(PATIENCE, open).await else {
        bail!("no answer within {PATIENCE:?}");
    };
    let (opened, session) = opened?;
    let (socket, response) = match opened {
        Ok((socket, response)) => (Some(socket), response),
        Err(Error::Http(response)) => (None, *response),
        Err(error) => return Err(error.into()),
    };
    let mut result = result::head(response.status(), response.headers(), &start);
    result::body(&mut result, response.body().as_deref().unwrap_or_default());
    if let Some(session) = session {
        session.report(&mut result);
    }
    let mut received = Vec::new();
    let talked = match socket {
        Some(socket) => match timeout(PATIENCE, talk(socket, messages, &mut received)).await {
            Ok(talked) => talked,
            Err(_elapsed) => Err(anyhow::anyhow!("websocket: not closed within {PATIENCE:?}")),
        },
        None => Err(anyhow::anyhow!("websocket: bad handshake")),
    };
    if response.status() == StatusCode::SWITCHING_PROTOCOLS {
        result.insert("messages".to_owned(), received.into());
    }
    if let Err(error) = talked {
        result.insert("error".to_owned(), format!("{error:#}").into());
    }
    Ok(result)
}

fn request(query: &Query) -> Result<Request> {
    let scheme = query.url.scheme_str().unwrap_or("ws");
    let uri = format!("{scheme}://{}{}", query.host, query.target());
    let mut request = uri.into_client_request()?;
    request.headers_mut().extend(query.headers.clone());
    Ok(request)
}

async fn talk(
    socket: WebSocketStream<Box<dyn Stream>>,
    messages: &[String],
    received: &mut Vec<String>,
) -> Result<()> {
    let (mut sink, mut stream) = socket.split();
    let send = async {
        for message in messages {
            sink.send(Message::text(message)).await?;
        }
        let normal = CloseFrame {
            code: CloseCode::Normal,
            reason: "".into(),
        };
        sink.send(Message::Close(Some(normal))).await
    };
    let receive = async {
        while let Some(message) = stream.next().await {
            let message = match message {
                Err(Error::Protocol(ProtocolError::ResetWithoutClosingHandshake)) => break,
                message => message?,
            };
            match message {
                Message::Text(text) => received.push(text.to_string()),
                Message::Binary(bytes) => {
                    received.push(String::from_utf8_lossy(&bytes).into_owned())
                }
                Message::Close(Some(frame)) if frame.code != CloseCode::Normal => {
                    bail!("websocket: close {}", frame);
                }
                Message::Close(_) => return Ok(()),
                Message::Ping(_) | Message::Pong(_) | Message::Frame(_) => {}
            }
        }
        bail!("websocket: close 1006 (abnormal closure): unexpected EOF")
    };
    let (sent, received) = tokio::join!(send, receive);
    received?;
    Ok(sent?)
}
