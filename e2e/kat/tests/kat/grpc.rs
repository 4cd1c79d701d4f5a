//! The three kinds of gRPC queries, and the `grpc_echo` backend.

use std::time::{Duration, Instant};

use anyhow::Result;
use axum::{Router, body::Bytes, routing::post};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use nuncio_kat::{
    certificate::Authority,
    echo::{EchoRequest, EchoResponse, PATH},
    server::{GrpcEcho, Http, Listen, Server},
};
use prost::Message as _;
use serde_json::{Value, json};

use crate::{ask, result, serve};

fn real(address: &str, headers: &Value) -> Value {
    json!({"url": format!("http://{address}{PATH}"), "grpc_type": "real", "headers": headers})
}

#[tokio::test]
async fn a_call_is_answered_over_http2_without_tls() -> Result<()> {
    let (_server, address) = serve(GrpcEcho::new("echo").router()).await?;
    let headers = json!({"x-forwarded-proto": "https", "x-one": "1"});
    let answer = ask(real(&address, &headers)).await?;
    assert_eq!(answer.get("client-start-date"), None);
    let result = &answer["result"];
    assert_eq!(result["status"], 200);
    assert_eq!(result["body"], "");
    assert_eq!(
        result["headers"],
        json!({"Grpc-Status": ["0"], "Grpc-Message": [""]})
    );
    let said = &result["text"];
    assert_eq!(said["backend"], "echo");
    assert_eq!(said["request"]["tls"], json!({"enabled": true}));
    assert_eq!(said["request"]["headers"]["x-one"], "1");
    assert_eq!(
        said["request"]["headers"]["content-type"],
        "application/grpc"
    );
    assert_eq!(said["request"]["headers"][":authority"], address);
    let headers = said["response"]["headers"].as_object().unwrap();
    assert_eq!(headers.keys().collect::<Vec<_>>(), ["date"]);
    Ok(())
}

#[tokio::test]
async fn echo_obeys_its_control_headers() -> Result<()> {
    let (_server, address) = serve(GrpcEcho::new("echo").router()).await?;
    let copied = json!({"kat-req-echo-requested-headers": "x-one, none", "x-one": "1"});
    let copied = result(real(&address, &copied)).await?;
    assert_eq!(copied["text"]["response"]["headers"]["x-one"], "1");
    assert_eq!(copied["text"]["request"]["tls"], json!({}));
    let start = Instant::now();
    let delay = json!({"kat-req-echo-requested-backend-delay": "50"});
    result(real(&address, &delay)).await?;
    assert!(start.elapsed() >= Duration::from_millis(50));
    let refused = result(real(
        &address,
        &json!({"kat-req-echo-requested-status": "7"}),
    ))
    .await?;
    let message = "kat-req-echo-requested-status";
    assert_eq!(
        refused["headers"],
        json!({"Grpc-Status": ["7"], "Grpc-Message": [message]})
    );
    assert_eq!(refused["status"], 200);
    assert_eq!(refused.get("text"), None);
    Ok(())
}

#[tokio::test]
async fn what_makes_a_call_fail_is_an_error_or_a_code() -> Result<()> {
    let (_server, address) = serve(GrpcEcho::new("echo").router()).await?;
    let unavailable = result(real(
        &address,
        &json!({"kat-req-echo-requested-status": "14"}),
    ))
    .await?;
    assert!(
        unavailable["error"]
            .as_str()
            .is_some_and(|error| error.contains("code = Unavailable"))
    );
    assert_eq!(unavailable.get("status"), None);
    let elsewhere = json!({"url": format!("http://{address}/other"), "grpc_type": "real"});
    let elsewhere = result(elsewhere).await?;
    assert!(
        elsewhere["error"]
            .as_str()
            .is_some_and(|error| error.contains(PATH))
    );
    // no gRPC server at all
    let (_server, address) = serve(Http::new("http").router()).await?;
    let missing = result(real(
        &address,
        &json!({"kat-req-http-requested-status": "404"}),
    ))
    .await?;
    assert_eq!(
        missing["headers"]["Grpc-Status"],
        json!(["12"]),
        "{missing}"
    );
    Ok(())
}

#[tokio::test]
async fn a_call_with_tls_trusts_the_system_only() -> Result<()> {
    let certificate = Authority::new()?.issue(&["localhost"])?;
    let listen = Listen::default().tls("127.0.0.1:0", certificate);
    let server = Server::start(&listen, GrpcEcho::new("echo").router()).await?;
    let url = format!("https://localhost:{}{PATH}", server.tls_address()?.port());
    let result = result(json!({"url": url, "grpc_type": "real", "insecure": true})).await?;
    let error = result["error"].as_str().unwrap_or_default();
    assert!(
        error.contains("certificate signed by unknown authority"),
        "{result}"
    );
    Ok(())
}

#[tokio::test]
async fn a_bridged_call_is_one_frame_each_way() -> Result<()> {
    let (_server, address) = serve(GrpcEcho::new("echo").router()).await?;
    let result = result(json!({
        "url": format!("http://{address}{PATH}"),
        "grpc_type": "bridge",
        "headers": {"content-type": "application/grpc", "x-one": "1"},
    }))
    .await?;
    assert_eq!(result["status"], 200);
    assert_eq!(result["text"]["backend"], "echo");
    assert_eq!(result["text"]["request"]["headers"]["x-one"], "1");
    let body = BASE64_STANDARD.decode(result["body"].as_str().unwrap())?;
    let response = EchoResponse::decode(&body[5..])?;
    assert_eq!(json!(response), result["text"]);
    Ok(())
}

#[tokio::test]
async fn a_bridged_call_without_an_answer_has_no_message() -> Result<()> {
    let (_server, address) = serve(GrpcEcho::new("echo").router()).await?;
    let result = result(json!({
        "url": format!("http://{address}{PATH}"),
        "grpc_type": "bridge",
        "headers": {"content-type": "application/grpc", "kat-req-echo-requested-status": "3"},
    }))
    .await?;
    assert_eq!(result["headers"]["Grpc-Status"], json!(["3"]));
    assert_eq!(result["text"], "");
    Ok(())
}

#[tokio::test]
async fn a_web_call_is_base64_in_pieces_with_trailers() -> Result<()> {
    let (_server, address) = serve(Router::new().route(PATH, post(web))).await?;
    let query = json!({"url": format!("http://{address}{PATH}"), "grpc_type": "web"});
    let result = result(query).await?;
    assert_eq!(result["text"], json!({"backend": "foo"}), "{result}");
    assert_eq!(result["headers"]["Grpc-Status"], json!(["0"]));
    assert_eq!(result["headers"]["Grpc-Message"], json!(["fine: really"]));
    Ok(())
}

/// Answers a call of gRPC-Web with what it sent; the frames are encoded one by one, so there is padding between them.
async fn web(body: Bytes) -> String {
    let frame = |flags: u8, content: &[u8]| {
        let mut frame = vec![
            flags,
            0,
            0,
            0,
            u8::try_from(content.len()).unwrap_or_default(),
        ];
        frame.extend_from_slice(content);
        BASE64_STANDARD.encode(frame)
    };
    let request = BASE64_STANDARD.decode(body).unwrap_or_default();
    let data = match request.split_at_checked(5) {
        Some(([0, 0, 0, 0, 5], message)) => EchoRequest::decode(message).unwrap_or_default().data,
        _ => "no frame".to_owned(),
    };
    let response = EchoResponse {
        backend: data,
        ..EchoResponse::default()
    };
    let message = frame(0, &response.encode_to_vec());
    message + &frame(0x80, b"grpc-status: 0\r\ngrpc-message: fine: really\r\n")
}
