//! The `http` and `health_check_server` backends, over HTTP/1.1.

use std::time::{Duration, Instant};

use anyhow::Result;
use base64::{Engine as _, prelude::BASE64_STANDARD};
use nuncio_kat::{
    client,
    server::{HealthCheck, Http},
};
use serde_json::{Value, json};

use crate::{ask, result, serve};

#[tokio::test]
async fn a_backend_says_what_reached_it() -> Result<()> {
    let (_server, address) = serve(Http::new("first").router()).await?;
    let answer = ask(json!({
        "id": 7,
        "url": format!("http://{address}/a%20b?x=1&x=2"),
        "headers": {"Host": "example.com", "X-One": "1"},
        "cookies": [{"name": "a", "value": "b"}, {"name": "c", "value": "d"}],
    }))
    .await?;
    assert_eq!(answer["id"], 7, "unknown fields are kept");
    let result = &answer["result"];
    assert_eq!(result["status"], 200);
    assert_eq!(result.get("error"), None);
    assert_eq!(result.get("tls_version"), None);
    let said = &result["json"];
    assert_eq!(said["backend"], "first");
    assert_eq!(
        said["request"],
        json!({
            "url": {
                "fragment": "",
                "host": "",
                "opaque": "",
                "path": "/a b",
                "query": {"x": ["1", "2"]},
                "rawQuery": "x=1&x=2",
                "scheme": "",
            },
            "method": "GET",
            "headers": {"cookie": ["a=b; c=d"], "user-agent": ["kat-client"], "x-one": ["1"]},
            "host": "example.com",
            "tls": {"enabled": false},
        })
    );
    let headers = said["response"]["headers"].as_object().unwrap();
    assert_eq!(
        headers.keys().collect::<Vec<_>>(),
        ["date", "kat-resp-http-request-body"]
    );
    let body = BASE64_STANDARD.decode(result["body"].as_str().unwrap())?;
    assert_eq!(serde_json::from_slice::<Value>(&body)?, *said);
    assert!(
        body.starts_with(b"{\n  \"backend\": \"first\""),
        "two spaces"
    );
    assert_eq!(
        result["headers"]["Content-Type"],
        json!(["text/plain; charset=utf-8"])
    );
    Ok(())
}

#[tokio::test]
async fn the_times_of_a_query_are_in_order() -> Result<()> {
    let (_server, address) = serve(Http::new("first").router()).await?;
    let answer = ask(json!({"url": format!("http://{address}")})).await?;
    let headers = &answer["result"]["headers"];
    let time = |value: &Value| {
        value
            .as_str()
            .and_then(|text| text.parse::<jiff::Timestamp>().ok())
    };
    let start = time(&answer["client-start-date"]).unwrap();
    let start_header = time(&headers["Client-Start-Date"][0]).unwrap();
    let end_header = time(&headers["Client-End-Date"][0]).unwrap();
    assert!(
        start <= start_header && start_header < end_header,
        "{answer:#}"
    );
    Ok(())
}

#[tokio::test]
async fn control_headers_are_obeyed() -> Result<()> {
    let (_server, address) = serve(Http::new("first").router()).await?;
    let result = result(json!({
        "url": format!("http://{address}"),
        "method": "PUT",
        "body": BASE64_STANDARD.encode("one\ntwo"),
        "headers": {
            "kat-req-http-requested-status": "302",
            "kat-req-http-requested-header": "X-Copy",
            "kat-req-http-requested-cookie": "a, b",
            "kat-req-http-requested-location": "http://elsewhere/",
            "x-copy": "copied",
        },
    }))
    .await?;
    assert_eq!(result["status"], 302);
    assert_eq!(result["json"]["request"]["method"], "PUT");
    for (name, values) in [
        ("Kat-Resp-Http-Request-Body", json!(["one two"])),
        ("Location", json!(["http://elsewhere/"])),
        ("Set-Cookie", json!(["a=a", "b=b"])),
        ("X-Copy", json!(["copied"])),
    ] {
        assert_eq!(result["headers"][name], values, "{name}");
        let said = &result["json"]["response"]["headers"][name.to_lowercase()];
        assert_eq!(*said, values, "{name}");
    }
    Ok(())
}

#[tokio::test]
async fn a_status_that_is_no_number_is_500() -> Result<()> {
    let (_server, address) = serve(Http::new("first").router()).await?;
    for status in ["", "many", "99", "1000"] {
        let headers = json!({"kat-req-http-requested-status": status});
        let result =
            result(json!({"url": format!("http://{address}"), "headers": headers})).await?;
        assert_eq!(result["status"], 500, "{status:?}");
    }
    Ok(())
}

#[tokio::test]
async fn answers_keep_the_order_of_queries() -> Result<()> {
    let (_server, address) = serve(Http::new("first").router()).await?;
    let query = |path: &str, delay: &str| {
        let headers = json!({"kat-req-http-requested-backend-delay": delay});
        json!({"url": format!("http://{address}{path}"), "headers": headers})
    };
    let start = Instant::now();
    let answers = client::run(vec![query("/slow", "200"), query("/fast", "0")], 2).await?;
    assert!(start.elapsed() >= Duration::from_millis(200));
    let path = |answer: &Value| answer["result"]["json"]["request"]["url"]["path"].clone();
    assert_eq!(
        answers.iter().map(path).collect::<Vec<_>>(),
        ["/slow", "/fast"]
    );
    let (slow, fast) = (&answers[0]["result"], &answers[1]["result"]);
    let end = |result: &Value| {
        result["headers"]["Client-End-Date"][0]
            .as_str()
            .map(str::to_owned)
    };
    assert!(end(fast) < end(slow), "both were under way at once");
    Ok(())
}

#[tokio::test]
async fn extauth_holds_the_request_and_the_headers() -> Result<()> {
    let (_server, address) = serve(Http::new("first").include_extauth(true).router()).await?;
    let with = result(json!({"url": format!("http://{address}/path")})).await?;
    let extauth: Value = serde_json::from_str(with["headers"]["Extauth"][0].as_str().unwrap())?;
    assert_eq!(extauth["request"], with["json"]["request"]);
    assert!(extauth["resp_headers"]["date"].is_array());
    let url = format!("http://{address}/?override_extauth_header");
    let without = result(json!({"url": url})).await?;
    assert_eq!(without["status"], 200);
    assert_eq!(without["headers"].get("Extauth"), None);
    Ok(())
}

#[tokio::test]
async fn health_ends_after_the_request_that_ends_it() -> Result<()> {
    let (_server, address) = serve(HealthCheck::new("first", 201, 503).router()).await?;
    let mut statuses = Vec::new();
    for path in ["/", "/makeUnhealthy/", "/", "/makeUnhealthy/"] {
        let result = result(json!({"url": format!("http://{address}{path}")})).await?;
        assert_eq!(result["json"]["request"]["url"]["path"], path);
        statuses.push(result["status"].clone());
    }
    assert_eq!(statuses, [201, 201, 503, 503]);
    Ok(())
}

#[tokio::test]
async fn a_dropped_server_is_gone() -> Result<()> {
    let (server, address) = serve(Http::new("first").router()).await?;
    drop(server);
    let refused = |answer: Value| {
        let error = answer["error"].as_str().unwrap_or_default().to_owned();
        anyhow::ensure!(error.contains("connection refused"), "{answer}");
        anyhow::ensure!(error.starts_with("Get \"http://"), "{error}");
        anyhow::ensure!(answer.get("status").is_none(), "{answer}");
        Ok(())
    };
    let query = || json!({"url": format!("http://{address}")});
    nuncio_kat::wait::until("the end of the server", || async {
        refused(result(query()).await?)
    })
    .await
}
