//! `kat-server` and `kat-client`, each tested with the other where that is possible.

use anyhow::{Context as _, Result};
use axum::Router;
use nuncio_kat::{
    client,
    server::{Listen, Server},
};
use serde_json::Value;

#[path = "kat/envoy_services.rs"]
mod envoy_services;
#[path = "kat/grpc.rs"]
mod grpc;
#[path = "kat/http.rs"]
mod http;
#[path = "kat/programs.rs"]
mod programs;
#[path = "kat/tls.rs"]
mod tls;
#[path = "kat/websocket.rs"]
mod websocket;

/// A backend in clear text, and its address.
async fn serve(backend: Router) -> Result<(Server, String)> {
    let server = Server::start(&Listen::on("127.0.0.1:0"), backend).await?;
    let address = server.address()?.to_string();
    Ok((server, address))
}

/// One query with its answer.
async fn ask(query: Value) -> Result<Value> {
    client::run(vec![query], 1)
        .await?
        .pop()
        .context("no answer")
}

/// The result of one query.
async fn result(query: Value) -> Result<Value> {
    Ok(ask(query).await?["result"].take())
}
