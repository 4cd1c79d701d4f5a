//! `kat-client`: takes queries as JSON objects, sends them all, and adds the result to each.

use std::sync::Arc;

use anyhow::{Context as _, Result};
use futures::future::join_all;
use serde_json::{Map, Value};
use tokio::sync::Semaphore;

pub mod arguments;
mod certificate;
mod failure;
mod grpc;
mod http;
mod query;
mod real;
mod result;
mod tls;
mod transport;
mod websocket;

use self::query::{Kind, Query};

/// Default number of queries in flight.
pub const LIMIT: usize = 25;

/// Sends the queries, at most `limit` at a time; the answers are in their order.
///
/// Each answer is the query with a `result` and, except for gRPC and websockets, a `client-start-date`.
///
/// # Errors
/// A query that cannot be understood. What goes wrong with one that can is the `error` of its result.
pub async fn run(queries: Vec<Value>, limit: usize) -> Result<Vec<Value>> {
    let permits = Arc::new(Semaphore::new(limit.max(1)));
    let mut answers = Vec::new();
    for (position, object) in queries.into_iter().enumerate() {
        let query = Query::parse(&object).with_context(|| format!("query {position}"))?;
        let permits = permits.clone();
        answers.push(async move {
            let _permit = permits.acquire().await?;
            Ok(answer(object, &query).await)
        });
    }
    join_all(answers).await.into_iter().collect()
}

/// The query object with its answer.
async fn answer(mut object: Value, query: &Query) -> Value {
    let start = result::now();
    let answered = match query.kind {
        Kind::Http | Kind::Bridge | Kind::Web => {
            object["client-start-date"] = start.into();
            http::answer(query).await
        }
        Kind::Real => real::answer(query).await,
        Kind::Websocket => websocket::answer(query).await,
    };
    object["result"] = match answered {
        Ok(result) => Value::Object(result),
        Err(error) => {
            let error = failure::describe(query, &error);
            Value::Object(Map::from_iter([("error".to_owned(), error.into())]))
        }
    };
    object
}
