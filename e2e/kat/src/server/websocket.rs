//! Websockets over HTTP/1.1: each text message comes back as it is, until either side closes.

use axum::{
    extract::{
        FromRequestParts as _,
        ws::{Message, WebSocket, WebSocketUpgrade},
    },
    http::{header::UPGRADE, request::Parts},
    response::{IntoResponse as _, Response},
};
use tokio::sync::watch;

use super::connection::Connection;

/// Whether a request wants to be a websocket.
pub(super) fn wanted(request: &Parts) -> bool {
    let upgrade = request.headers.get(UPGRADE);
    upgrade.is_some_and(|protocol| protocol.as_bytes().eq_ignore_ascii_case(b"websocket"))
}

/// The answer that makes it one.
pub(super) async fn upgrade(request: &mut Parts) -> Response {
    let connection = request.extensions.get::<Connection>().cloned();
    match WebSocketUpgrade::from_request_parts(request, &()).await {
        Ok(upgrade) => upgrade.on_upgrade(async |socket| {
            if let Some(connection) = connection {
                echo(socket, connection.stopped).await;
            }
        }),
        Err(refusal) => refusal.into_response(),
    }
}

async fn echo(mut socket: WebSocket, mut stopped: watch::Receiver<()>) {
    loop {
        let message = tokio::select! {
            message = socket.recv() => message,
            _ended = stopped.changed() => return,
        };
        let Some(Ok(message)) = message else {
            return;
        };
        if let Message::Text(_) = message
            && socket.send(message).await.is_err()
        {
            return;
        }
    }
}
