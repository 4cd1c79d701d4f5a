//! Requests by `kat-client`, and their results.

use anyhow::{Context as _, Result, ensure};
use nuncio_e2e::{certificate::Authority, wait::until};
use nuncio_kat::client;
use serde_json::{Value, json};

use crate::fixture::{HTTP, HTTPS};

/// A query for a path of a host on the clear-text port, with headers.
pub(crate) fn query(host: &str, path: &str, headers: &[(&str, &str)]) -> Value {
    let mut all = json!({"Host": host});
    for (name, value) in headers {
        all[*name] = json!(value);
    }
    json!({"url": format!("http://{HTTP}{path}"), "headers": all})
}

/// A query for a path of a host on the TLS port, by a client that trusts this authority.
pub(crate) fn tls_query(host: &str, path: &str, authority: &Authority) -> Value {
    json!({"url": format!("https://{HTTPS}{path}"), "headers": {"Host": host}, "sni": true, "ca_cert": authority.pem()})
}

/// The result of a query.
pub(crate) async fn ask(query: Value) -> Result<Value> {
    let mut answers = client::run(vec![query], client::LIMIT).await?;
    let answer = answers.pop().context("there is no answer")?;
    Ok(answer["result"].clone())
}

/// The results of many queries, all in flight at once.
pub(crate) async fn ask_all(queries: Vec<Value>) -> Result<Vec<Value>> {
    let number = queries.len();
    let answers = client::run(queries, number).await?;
    Ok(answers
        .into_iter()
        .map(|answer| answer["result"].clone())
        .collect())
}

/// How many connections at once show that every worker of Envoy has an update: that all reach one of two workers
/// happens once in 30,000 times.
pub(crate) const CONNECTIONS: usize = 16;

/// Asks until the status is this whichever worker answers, and returns the last answer.
pub(crate) async fn answered(query: &Value, status: u64) -> Result<Value> {
    until(&query["url"].to_string(), || async {
        let answers = ask_all(vec![query.clone(); CONNECTIONS]).await?;
        for answer in &answers {
            ensure!(answer["status"] == status, "{answer}");
        }
        answers.into_iter().last().context("there is no answer")
    })
    .await
}

/// Asks until a request reaches this backend, whichever worker of Envoy answers.
pub(crate) async fn answered_by(query: &Value, expected: &str) -> Result<()> {
    until(&format!("{} at {expected}", query["url"]), || async {
        for answer in ask_all(vec![query.clone(); CONNECTIONS]).await? {
            ensure!(backend(&answer) == expected, "{answer}");
        }
        Ok(())
    })
    .await
}

/// Asks until there is no answer, and the reason has these words.
pub(crate) async fn rejected(query: &Value, words: &str) -> Result<()> {
    let what = format!("{words:?} from {}", query["headers"]["Host"]);
    until(&what, || async {
        let answer = ask(query.clone()).await?;
        let reason = answer["error"].as_str().unwrap_or_default();
        ensure!(reason.contains(words), "{answer}");
        Ok(())
    })
    .await
}

/// Whether the connection was closed without an answer.
pub(crate) fn is_closed(answer: &Value) -> bool {
    let reason = answer["error"].as_str().unwrap_or_default();
    // unread bytes turn a close into a reset
    reason.contains("EOF") || reason.contains("connection reset by peer")
}

/// Asks until the connection is closed, whichever worker it reaches.
pub(crate) async fn closed(query: &Value) -> Result<()> {
    until("a closed connection", || async {
        for answer in ask_all(vec![query.clone(); CONNECTIONS]).await? {
            ensure!(is_closed(&answer), "{answer}");
        }
        Ok(())
    })
    .await
}

/// The names in the certificate that the server presented.
pub(crate) fn shown(answer: &Value) -> &Value {
    &answer["tls"][0]["DNSNames"]
}

/// The name of the backend that a query reached.
pub(crate) fn backend(answer: &Value) -> &str {
    answer["json"]["backend"].as_str().unwrap_or_default()
}

/// All values of a header as it reached the backend.
pub(crate) fn reached<'a>(answer: &'a Value, name: &str) -> &'a Value {
    &answer["json"]["request"]["headers"][name]
}

/// All values of a response header, by its canonical name.
pub(crate) fn returned<'a>(answer: &'a Value, name: &str) -> &'a Value {
    &answer["headers"][name]
}
