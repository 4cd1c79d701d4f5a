//! Other protocols than plain HTTP: websockets, gRPC, HTTP/2 and TLS to backends, and TCP.

use std::collections::BTreeMap;

use anyhow::{Result, ensure};
use nuncio_e2e::{certificate::Authority, client::get_tls, wait::until};
use nuncio_kat::server::{GrpcEcho, Http, Listen, Server};
use serde_json::json;

use crate::{
    Space,
    answer::{CONNECTIONS, answered, ask, ask_all, backend, query},
    fixture::{HTTP, host, mapping, service},
};

pub(crate) async fn websockets_are_let_through_where_asked(space: &Space) -> Result<()> {
    let _server = Server::start(&Listen::on("10.96.27.1:80"), Http::new("socket").router()).await?;
    let manifests = [
        host("socket", "socket.example", ""),
        mapping(
            "socket-new",
            "socket.example",
            "/new/",
            "10.96.27.1",
            ", allow_upgrade: [websocket]",
        ),
        mapping(
            "socket-old",
            "socket.example",
            "/old/",
            "10.96.27.1",
            ", use_websocket: true",
        ),
        mapping(
            "socket-not",
            "socket.example",
            "/not/",
            "10.96.27.1",
            ", use_websocket: false",
        ),
    ];
    space.apply(&manifests.concat())?;
    answered(&query("socket.example", "/not/", &[]), 200).await?;
    for path in ["/new/", "/old/"] {
        let query = json!({"url": format!("ws://{HTTP}{path}"), "headers": {"Host": "socket.example"}, "messages": ["one", "two"]});
        let answer = ask(query).await?;
        ensure!(
            answer["messages"] == json!(["one", "two"]),
            "{path}: {answer}"
        );
    }
    let query = json!({"url": format!("ws://{HTTP}/not/"), "headers": {"Host": "socket.example"}, "messages": ["one"]});
    let answer = ask(query).await?;
    ensure!(
        answer["status"] == 403,
        "a websocket where upgrades are off: {answer}"
    );
    Ok(())
}

pub(crate) async fn grpc_and_http2_reach_backends(space: &Space) -> Result<()> {
    let _echo = Server::start(&Listen::on("10.96.28.1:80"), GrpcEcho::new("echo").router()).await?;
    let _plain = Server::start(&Listen::on("10.96.28.2:80"), Http::new("plain").router()).await?;
    let manifests = [
        host("grpc", "grpc.example", ""),
        mapping(
            "grpc",
            "grpc.example",
            "/echo.EchoService/",
            "10.96.28.1",
            ", rewrite: '', grpc: true",
        ),
        mapping(
            "grpc-h2c",
            "grpc.example",
            "/h2c/",
            "10.96.28.2",
            ", grpc: true",
        ),
    ];
    space.apply(&manifests.concat())?;
    answered(&query("grpc.example", "/h2c/", &[]), 200).await?;
    let call = json!({"url": format!("http://{HTTP}/echo.EchoService/Echo"), "grpc_type": "real", "headers": {"Host": "grpc.example", "kat-req-echo-requested-headers": "x-a", "x-a": "b"}});
    let answer = ask(call).await?;
    ensure!(
        *answer["headers"]["Grpc-Status"]
            .as_array()
            .into_iter()
            .flatten()
            .next()
            .unwrap_or(&json!(null))
            == "0",
        "{answer}"
    );
    let failing = json!({"url": format!("http://{HTTP}/echo.EchoService/Echo"), "grpc_type": "real", "headers": {"Host": "grpc.example", "kat-req-echo-requested-status": "7"}});
    let answer = ask(failing).await?;
    ensure!(answer["headers"]["Grpc-Status"] == json!(["7"]), "{answer}");
    let http2 = space
        .gateway
        .envoy
        .statistic("cluster.10_96_28_2_80.upstream_cx_http2_total")
        .await?;
    ensure!(http2 > 0, "no connection to the backend is HTTP/2");
    Ok(())
}

pub(crate) async fn tls_reaches_backends(space: &Space) -> Result<()> {
    let authority = Authority::new()?;
    let server = Http::new("tls").router();
    let listen = Listen::default().tls("10.96.29.1:443", authority.issue(&["up.example"])?);
    let _server = Server::start(&listen, server).await?;
    let stranger = Authority::new()?;
    let context = |name: &str, spec: &str| {
        format!(
            "apiVersion: getambassador.io/v3alpha1\nkind: TLSContext\nmetadata: {{name: {name}}}\nspec: {{{spec}}}\n---\n"
        )
    };
    let manifests = [
        authority.secret(&space.namespace, "tls-ca"),
        stranger.secret(&space.namespace, "tls-stranger"),
        context("tls-named", "sni: up.example, alpn_protocols: h2"),
        context("tls-trusting", "ca_secret: tls-ca, sni: up.example"),
        context("tls-other", "ca_secret: tls-stranger, sni: up.example"),
        host("tls", "tls.example", ""),
        mapping(
            "tls-plain",
            "tls.example",
            "/plain/",
            "https://10.96.29.1",
            "",
        ),
        mapping(
            "tls-named",
            "tls.example",
            "/named/",
            "10.96.29.1",
            ", tls: tls-named, grpc: true",
        ),
        mapping(
            "tls-trusting",
            "tls.example",
            "/trusting/",
            "10.96.29.1",
            ", tls: tls-trusting",
        ),
        mapping(
            "tls-other",
            "tls.example",
            "/other/",
            "10.96.29.1",
            ", tls: tls-other",
        ),
        mapping(
            "tls-missing",
            "tls.example",
            "/missing/",
            "10.96.29.1",
            ", tls: tls-absent",
        ),
    ];
    space.apply(&manifests.concat())?;
    let answer = answered(&query("tls.example", "/plain/", &[]), 200).await?;
    ensure!(
        answer["json"]["request"]["tls"]["enabled"] == true,
        "{answer}"
    );
    let answer = answered(&query("tls.example", "/named/", &[]), 200).await?;
    let tls = &answer["json"]["request"]["tls"];
    ensure!(
        tls["server-name"] == "up.example" && tls["negotiated-protocol"] == "h2",
        "{answer}"
    );
    answered(&query("tls.example", "/trusting/", &[]), 200).await?;
    // nothing is sent to a server that is not trusted, nor with a TLSContext that does not exist
    answered(&query("tls.example", "/other/", &[]), 503).await?;
    answered(&query("tls.example", "/missing/", &[]), 503).await?;
    space.apply(&context("tls-absent", "sni: up.example"))?;
    answered(&query("tls.example", "/missing/", &[]), 200).await?;
    Ok(())
}

pub(crate) async fn tcp_is_passed_on(space: &Space) -> Result<()> {
    let authority = Authority::new()?;
    let mut servers = Vec::new();
    for number in 1..=3 {
        let name = number.to_string();
        servers.push(
            Server::start(
                &Listen::on(format!("10.96.30.{number}:80")),
                Http::new(name).router(),
            )
            .await?,
        );
    }
    let tcp = |name: &str, spec: &str| {
        format!(
            "apiVersion: getambassador.io/v3alpha1\nkind: TCPMapping\nmetadata: {{name: {name}}}\nspec: {{{spec}}}\n---\n"
        )
    };
    let manifests = [
        service("tcp", "10.96.30.1"),
        authority.issue(&["tcp.example"])?.secret(&space.namespace, "tcp"),
        "apiVersion: getambassador.io/v3alpha1\nkind: TLSContext\nmetadata: {name: tcp}\nspec: {secret: tcp, hosts: [tcp.example]}\n---\n".to_owned(),
        tcp("tcp-plain", "port: 6789, service: tcp"),
        tcp("tcp-local", "port: 6790, address: 127.0.0.5, service: tcp"),
        tcp("tcp-tls", "port: 8443, host: tcp.example, service: 10.96.30.2"),
        tcp("tcp-a", "port: 6791, service: 10.96.30.2, weight: 30"),
        tcp("tcp-b", "port: 6791, service: 10.96.30.3"),
    ];
    space.apply(&manifests.concat())?;
    for (address, expected) in [("127.0.0.1:6789", "1"), ("127.0.0.5:6790", "1")] {
        let query = json!({"url": format!("http://{address}/")});
        let answer = answered(&query, 200).await?;
        ensure!(backend(&answer) == expected, "{answer}");
    }
    until("TLS on the port of the Hosts", || async {
        let answer = get_tls("127.0.0.1:8443", "tcp.example", "/", &authority.der()).await?;
        ensure!(
            answer.status == 200 && answer.body.contains("\"backend\": \"2\""),
            "{answer:?}"
        );
        Ok(())
    })
    .await?;
    let mut shares: BTreeMap<String, u32> = BTreeMap::new();
    until("both backends", || async {
        let query = json!({"url": "http://127.0.0.1:6791/"});
        let answers = ask_all(vec![query; CONNECTIONS]).await?;
        for name in ["2", "3"] {
            let is_reached = answers.iter().any(|answer| backend(answer) == name);
            ensure!(is_reached, "no connection reached {name}");
        }
        Ok(())
    })
    .await?;
    for _ in 0..400 {
        let answer = ask(json!({"url": "http://127.0.0.1:6791/"})).await?;
        *shares.entry(backend(&answer).to_owned()).or_default() += 1;
    }
    // 400 draws of 30 %: 120 expected, standard deviation 9; five of these are a false alarm in two million runs
    let share = shares.get("2").copied().unwrap_or_default();
    ensure!(
        (75..=165).contains(&share),
        "of 400 connections {shares:?}, 120 were expected at 2"
    );
    // the port closes with its last TCPMapping
    space.delete("tcpmapping/tcp-plain")?;
    until("the port to close", || async {
        let answer = ask(json!({"url": "http://127.0.0.1:6789/"})).await?;
        ensure!(answer["status"].is_null(), "{answer}");
        Ok(())
    })
    .await
}
