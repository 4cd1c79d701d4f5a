//! The two programs.

use std::{
    io::Write as _,
    process::{Command, Output, Stdio},
};

use anyhow::{Context as _, Result};
use nuncio_kat::server::{Http, environment};
use serde_json::{Value, json};

use crate::{result, serve};

const CLIENT: &str = env!("CARGO_BIN_EXE_kat-client");
const SERVER: &str = env!("CARGO_BIN_EXE_kat-server");

fn run(input: &str, arguments: &[&str]) -> Result<Output> {
    let mut client = Command::new(CLIENT)
        .args(arguments)
        .env("KAT_QUERY_LIMIT", "many")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    let mut stdin = client.stdin.take().context("no stdin")?;
    stdin.write_all(input.as_bytes())?;
    drop(stdin);
    Ok(client.wait_with_output()?)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_client_reads_and_writes_files_or_streams() -> Result<()> {
    let (_server, address) = serve(Http::new("first").router()).await?;
    let queries = json!([{"url": format!("http://{address}/"), "id": "one"}]).to_string();
    let streams = run(&queries, &[])?;
    assert!(streams.status.success(), "{streams:?}");
    let folder = tempfile::tempdir()?;
    let (input, output) = (folder.path().join("input"), folder.path().join("output"));
    std::fs::write(&input, &queries)?;
    let (input, written) = (input.display().to_string(), output.display().to_string());
    let files = run("", &["-input", &input, "-output", &written])?;
    assert!(
        files.status.success() && files.stdout.is_empty(),
        "{files:?}"
    );
    for text in [
        String::from_utf8(streams.stdout)?,
        std::fs::read_to_string(&output)?,
    ] {
        assert!(
            text.starts_with("[\n  {\n    \"client-start-date\""),
            "{text}"
        );
        assert!(text.ends_with(']'), "{text}");
        let answers: Value = serde_json::from_str(&text)?;
        assert_eq!(answers[0]["id"], "one");
        assert_eq!(answers[0]["result"]["json"]["backend"], "first");
    }
    Ok(())
}

#[test]
fn the_client_rejects_invalid_arguments() -> Result<()> {
    let bad_pair = json!([{"url": "http://127.0.0.1:1/", "client_cert": "a", "client_key": "b"}]);
    for (input, arguments) in [
        ("{", &[][..]),
        ("[{\"url\": 1}]", &[]),
        ("[{}]", &[]),
        (&bad_pair.to_string(), &[]),
        ("[]", &["-unknown"]),
    ] {
        let output = run(input, arguments)?;
        assert!(!output.status.success(), "{input} {arguments:?}");
        assert!(
            output.stdout.is_empty() && !output.stderr.is_empty(),
            "{output:?}"
        );
    }
    Ok(())
}

#[test]
fn the_server_needs_a_name() -> Result<()> {
    let output = Command::new(SERVER).env_clear().output()?;
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8(output.stderr)?.contains("no listener"));
    Ok(())
}

#[tokio::test]
async fn the_environment_chooses_the_backend() -> Result<()> {
    let echo = json!({"grpc_type": "real", "path": "/echo.EchoService/Echo"});
    for (variables, query, pointer, expected) in [
        (json!({}), json!({}), "/json/backend", json!("one")),
        (json!({}), json!({}), "/headers/Extauth", Value::Null),
        (
            json!({"KAT_BACKEND_TYPE": "grpc_echo"}),
            echo,
            "/text/backend",
            json!("one"),
        ),
        (
            json!({"KAT_BACKEND_TYPE": "grpc_als"}),
            json!({"path": "/logs"}),
            "/status",
            json!(200),
        ),
        (
            json!({"KAT_BACKEND_TYPE": "grpc_rls"}),
            json!({"path": "/logs"}),
            "/status",
            json!(404),
        ),
        (
            json!({"KAT_BACKEND_TYPE": "health_check_server", "HEALTHY_STATUS_CODE": "203"}),
            json!({}),
            "/status",
            json!(203),
        ),
    ] {
        let variable = |name: &str| variables[name].as_str().map(str::to_owned);
        let (_server, address) = serve(environment::backend("one", variable)).await?;
        let path = query["path"].as_str().unwrap_or("/");
        let url = format!("http://{address}{path}");
        let result = result(json!({"url": url, "grpc_type": query["grpc_type"]})).await?;
        let found = result.pointer(pointer).cloned().unwrap_or_default();
        assert_eq!(found, expected, "{variables}: {result}");
    }
    Ok(())
}

#[tokio::test]
async fn any_value_adds_the_extauth_header() -> Result<()> {
    let variable = |name: &str| (name == "INCLUDE_EXTAUTH_HEADER").then(|| "false".to_owned());
    let (_server, address) = serve(environment::backend("one", variable)).await?;
    let result = result(json!({"url": format!("http://{address}/")})).await?;
    assert!(result["headers"]["Extauth"].is_array(), "{result}");
    Ok(())
}
