//! Websockets.

use anyhow::Result;
use axum::{Router, extract::WebSocketUpgrade, routing::any};
use futures::{SinkExt as _, StreamExt as _};
use nuncio_kat::{
    certificate::Authority,
    client,
    server::{HealthCheck, Http, Listen, Server},
};
use serde_json::json;
use tokio::net::TcpStream;
use tokio_tungstenite::{client_async, tungstenite::Message};

use crate::{result, serve};

#[tokio::test]
async fn each_message_comes_back() -> Result<()> {
    let (_server, address) = serve(Http::new("first").router()).await?;
    let messages = ["one", "", "three"];
    let result = result(json!({"url": format!("ws://{address}/"), "messages": messages})).await?;
    assert_eq!(result["messages"], json!(messages), "{result}");
    assert_eq!(result["status"], 101);
    assert_eq!(result["headers"]["Upgrade"], json!(["websocket"]));
    assert_eq!(result.get("error"), None);
    Ok(())
}

#[tokio::test]
async fn an_end_without_a_close_is_an_error() -> Result<()> {
    let hang_up =
        any(async |upgrade: WebSocketUpgrade| upgrade.on_upgrade(async |socket| drop(socket)));
    let (_server, address) = serve(Router::new().fallback(hang_up)).await?;
    let result = result(json!({"url": format!("ws://{address}/"), "messages": ["one"]})).await?;
    assert_eq!(result["status"], 101);
    assert_eq!(result["messages"], json!([]));
    assert!(
        result["error"]
            .as_str()
            .is_some_and(|error| error.contains("close 1006")),
        "{result}"
    );
    Ok(())
}

#[tokio::test]
async fn an_answer_that_upgrades_nothing_is_reported() -> Result<()> {
    let (_server, address) = serve(HealthCheck::new("first", 200, 500).router()).await?;
    let result = result(json!({"url": format!("ws://{address}/"), "messages": ["one"]})).await?;
    assert_eq!(result["status"], 200);
    assert_eq!(
        result["json"]["request"]["headers"]["upgrade"],
        json!(["websocket"])
    );
    assert_eq!(result["error"], "websocket: bad handshake");
    Ok(())
}

#[tokio::test]
async fn a_websocket_query_needs_messages() -> Result<()> {
    let answers = client::run(vec![json!({"url": "ws://127.0.0.1:1/"})], 1).await?;
    let error = answers[0]["result"]["error"].as_str().unwrap_or_default();
    assert!(error.contains("needs messages"), "{error}");
    Ok(())
}

#[tokio::test]
async fn a_websocket_ends_with_its_server() -> Result<()> {
    let (server, address) = serve(Http::new("first").router()).await?;
    let stream = TcpStream::connect(&address).await?;
    let (mut socket, _) = client_async(format!("ws://{address}/"), stream).await?;
    socket.send(Message::text("one")).await?;
    assert_eq!(socket.next().await.transpose()?, Some(Message::text("one")));
    drop(server);
    let end = tokio::time::timeout(nuncio_kat::wait::PATIENCE, socket.next()).await?;
    assert!(!matches!(end, Some(Ok(_))), "{end:?}");
    Ok(())
}

#[tokio::test]
async fn a_websocket_goes_over_tls_too() -> Result<()> {
    let certificate = Authority::new()?.issue(&["example.com"])?;
    let listen = Listen::default().tls("127.0.0.1:0", certificate);
    let server = Server::start(&listen, Http::new("first").router()).await?;
    let url = format!("wss://{}/", server.tls_address()?);
    let result = result(json!({"url": url, "insecure": true, "messages": ["one"]})).await?;
    assert_eq!(result["messages"], json!(["one"]), "{result}");
    assert_eq!(result["tls_version"], 772);
    Ok(())
}
