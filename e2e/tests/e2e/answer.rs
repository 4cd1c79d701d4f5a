//! Requests by `kat-client`, and what came of them.

use anyhow::{Context as _, Result, ensure};
use nuncio_e2e::{kat::client, wait::until};
use serde_json::{Value, json};

use crate::fixture::HTTP;

/// A query for a path of a host on the clear-text port, with headers.
pub(crate) fn query(host: &str, path: &str, headers: &[(&str, &str)]) -> Value {
    let mut all = json!({"Host": host});
    for (name, value) in headers {
        all[*name] = json!(value);
    }
    json!({"url": format!("http://{HTTP}{path}"), "headers": all})
}

/// What came of a query.
pub(crate) async fn ask(query: Value) -> Result<Value> {
    let mut answers = client::run(vec![query], client::LIMIT).await?;
    let answer = answers.pop().context("there is no answer")?;
    Ok(answer["result"].clone())
}

/// What came of many queries, all under way at once.
pub(crate) async fn ask_all(queries: Vec<Value>) -> Result<Vec<Value>> {
    let number = queries.len();
    let answers = client::run(queries, number).await?;
    Ok(answers
        .into_iter()
        .map(|answer| answer["result"].clone())
        .collect())
}

/// Asks until the status is this, and says what came then.
pub(crate) async fn answered(query: &Value, status: u64) -> Result<Value> {
    until(&query["url"].to_string(), || async {
        let answer = ask(query.clone()).await?;
        ensure!(answer["status"] == status, "{answer}");
        Ok(answer)
    })
    .await
}

/// The name of the backend that a query reached.
pub(crate) fn backend(answer: &Value) -> &str {
    answer["json"]["backend"].as_str().unwrap_or_default()
}

/// A header as it reached the backend: all of its values.
pub(crate) fn reached<'a>(answer: &'a Value, name: &str) -> &'a Value {
    &answer["json"]["request"]["headers"][name]
}

/// A header of the response, by its canonical name: all of its values.
pub(crate) fn returned<'a>(answer: &'a Value, name: &str) -> &'a Value {
    &answer["headers"][name]
}
