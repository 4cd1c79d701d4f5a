//! The Module, with a real Envoy: what its keys change is seen by clients, and changes cost no request.

use std::{fs, path::Path, time::Duration};

use anyhow::{Context as _, Result, ensure};
use nuncio_e2e::{
    backend::Backend,
    client::{Loads, get},
    gateway::stops,
    process::Process,
    wait::until,
};
use rustix::process::Signal;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::timeout,
};

use crate::serve::{HTTP, gone, samples, serve};

const BACKEND: &str = "127.0.0.1:9101";

/// What clients see of a Module.
struct Row {
    /// Keys of the Module.
    config: &'static str,
    /// Request line and headers, without those that every request has.
    request: &'static str,
    /// What the response must contain once the Module is served.
    contains: &'static [&'static str],
    /// What it must not contain.
    lacks: &'static [&'static str],
}

/// A row without its request line: a GET of the backend.
const GET: &str = "GET /a/ HTTP/1.1\r\n";

const ROWS: &[Row] = &[
    Row {
        config: "server_name: gate",
        request: GET,
        contains: &[
            "200 OK",
            "server: gate\r\n",
            "x-envoy-upstream-service-time",
        ],
        lacks: &[],
    },
    Row {
        config: "suppress_envoy_headers: true, proper_case: true",
        request: GET,
        contains: &["200 OK", "Server: envoy\r\n"],
        lacks: &["nvoy-"],
    },
    Row {
        config: "gzip: {min_content_length: 4, content_type: [text/plain]}",
        request: "GET /text/ HTTP/1.1\r\naccept-encoding: gzip\r\n",
        contains: &["200 OK", "content-encoding: gzip"],
        lacks: &[],
    },
    Row {
        config: "gzip: {min_content_length: 4, content_type: [application/json]}",
        request: "GET /text/ HTTP/1.1\r\naccept-encoding: gzip\r\n",
        contains: &["200 OK", "one GET"],
        lacks: &["content-encoding"],
    },
    Row {
        config: "lua_scripts: \"function envoy_on_response(h) h:headers():add('x-lua', 'yes') end\"",
        request: GET,
        contains: &["200 OK", "x-lua: yes"],
        lacks: &[],
    },
    Row {
        config: "buffer: {max_request_bytes: 3}",
        request: "POST /a/ HTTP/1.1\r\ncontent-length: 5\r\n\r\n12345",
        contains: &["413 "],
        lacks: &["one POST"],
    },
    Row {
        config: "ip_deny: [{peer: 127.0.0.0/8}]",
        request: GET,
        contains: &["403 ", "RBAC: access denied"],
        lacks: &["one GET"],
    },
    Row {
        config: "ip_allow: [{remote: 127.0.0.0/8}]",
        request: GET,
        contains: &["200 OK"],
        lacks: &[],
    },
    Row {
        config: "use_remote_address: false, ip_allow: [{remote: 10.0.0.0/8}]",
        request: "GET /a/ HTTP/1.1\r\nx-forwarded-for: 10.1.2.3\r\n",
        contains: &["200 OK"],
        lacks: &[],
    },
    Row {
        config: "ip_allow: [{peer: nonsense}]",
        request: GET,
        contains: &["403 "],
        lacks: &["one GET"],
    },
    Row {
        config: "reject_requests_with_escaped_slashes: true",
        request: "GET /a/%2Fb HTTP/1.1\r\n",
        contains: &["400 "],
        lacks: &["one GET"],
    },
    Row {
        config: "merge_slashes: true",
        request: "GET //a///b HTTP/1.1\r\n",
        contains: &["200 OK", "one GET /b"],
        lacks: &[],
    },
    Row {
        config: "headers_with_underscores_action: REJECT_REQUEST",
        request: "GET /a/ HTTP/1.1\r\nx_y: 1\r\n",
        contains: &["400 "],
        lacks: &["one GET"],
    },
    Row {
        config: "max_request_headers_kb: 1",
        request: "GET /a/ HTTP/1.1\r\nx-long: {LONG}\r\n",
        contains: &["431 "],
        lacks: &["one GET"],
    },
    Row {
        config: "error_response_overrides: [{on_status_code: 404, body: {text_format: 'nothing here'}}]",
        request: "GET /missing/x HTTP/1.1\r\n",
        contains: &["404 ", "nothing here"],
        lacks: &[],
    },
    Row {
        config: "strip_matching_host_port: true",
        request: "GET /a/ HTTP/1.1\r\nhost: localhost:8080\r\n",
        contains: &["200 OK"],
        lacks: &[],
    },
    Row {
        config: "cors: {origins: ['https://a.example'], methods: [GET]}",
        request: "GET /a/ HTTP/1.1\r\norigin: https://a.example\r\n",
        contains: &["200 OK", "access-control-allow-origin: https://a.example"],
        lacks: &[],
    },
    Row {
        config: "defaults: {httpmapping: {add_response_headers: {x-default: set}}}",
        request: GET,
        contains: &["200 OK", "x-default: set"],
        lacks: &[],
    },
    Row {
        config: "server_name: probes",
        request: "GET /ambassador/v0/check_ready HTTP/1.1\r\n",
        contains: &["200 OK", "server: probes"],
        lacks: &["one GET"],
    },
    Row {
        config: "liveness_probe: {enabled: true, prefix: /alive, service: '127.0.0.1:9101'}",
        request: "GET /alive HTTP/1.1\r\n",
        contains: &["200 OK", "one GET /ambassador/v0/check_alive"],
        lacks: &[],
    },
    Row {
        config: "readiness_probe: {enabled: false}",
        request: "GET /ambassador/v0/check_ready HTTP/1.1\r\n",
        contains: &["404 "],
        lacks: &[],
    },
    Row {
        config: "enable_http10: true",
        request: "GET /a/ HTTP/1.0\r\n",
        contains: &["200 OK", "one GET"],
        lacks: &[],
    },
];

/// A Module with these keys.
fn module(config: &str) -> String {
    format!(
        "apiVersion: getambassador.io/v3alpha1\nkind: Module\nmetadata: {{name: ambassador}}\nspec: {{config: {{{config}}}}}\n"
    )
}

/// Replaces a file as a whole.
fn write(directory: &Path, name: &str, content: &str) -> Result<()> {
    fs::write(directory.join(".new"), content)?;
    Ok(fs::rename(directory.join(".new"), directory.join(name))?)
}

/// Sends a request as it is, and reads until the connection ends or nothing more comes.
async fn exchange(request: &str) -> Result<String> {
    let mut stream = TcpStream::connect(HTTP).await?;
    let request = request.replace("{LONG}", &"x".repeat(4000));
    let (head, body) = request.split_once("\r\n\r\n").unwrap_or((&request, ""));
    let head = head.trim_end();
    let host = if head.contains("\r\nhost:") {
        ""
    } else {
        "host: localhost\r\n"
    };
    let request = format!("{head}\r\n{host}connection: close\r\n\r\n{body}");
    stream.write_all(request.as_bytes()).await?;
    let mut response = Vec::new();
    let read = stream.read_to_end(&mut response);
    timeout(Duration::from_secs(5), read)
        .await
        .context("no end of the response")??;
    Ok(String::from_utf8_lossy(&response).into_owned())
}

fn mapping(name: &str, prefix: &str, more: &str) -> String {
    format!(
        "apiVersion: getambassador.io/v3alpha1\nkind: Mapping\nmetadata: {{name: {name}}}\nspec: {{hostname: '*', prefix: {prefix}, service: '{BACKEND}'{more}}}\n---\n"
    )
}

/// Serves a directory with a Listener, a Host and Mappings of a backend, and waits until it does.
async fn gateway(directory: &Path) -> Result<Process> {
    samples(directory)?;
    let text = ", add_response_headers: {content-type: {value: text/plain, append: false}}";
    let mappings = [mapping("a", "/a/", ""), mapping("text", "/text/", text)];
    fs::write(directory.join("mappings.yaml"), mappings.concat())?;
    let serve = serve(directory)?;
    until("the backend", || async {
        let response = exchange(GET).await?;
        ensure!(response.contains("one GET /"), "{response}");
        Ok(())
    })
    .await?;
    Ok(serve)
}

pub(crate) async fn clients_see_what_keys_change() -> Result<()> {
    let _backend = Backend::start(BACKEND, "one").await?;
    let directory = tempfile::tempdir()?;
    let mut serve = gateway(directory.path()).await?;
    // before the Module is there, its effect is not
    for row in ROWS {
        write(directory.path(), "module.yaml", &module(row.config))?;
        until(row.config, || async {
            let response = exchange(row.request).await?;
            let has = |text: &&&str| response.contains(**text);
            let missing: Vec<_> = row.contains.iter().filter(|text| !has(text)).collect();
            let found: Vec<_> = row.lacks.iter().filter(has).collect();
            ensure!(
                missing.is_empty() && found.is_empty(),
                "{}: {missing:?} {found:?} {response}",
                row.config
            );
            Ok(())
        })
        .await?;
    }
    fs::remove_file(directory.path().join("module.yaml"))?;
    until("the end of the Module", || async {
        let response = exchange("GET /a/ HTTP/1.0\r\n").await?;
        ensure!(response.contains("426 "), "{response}");
        Ok(())
    })
    .await?;
    stops(&mut serve, Signal::TERM)?;
    gone().await
}

pub(crate) async fn requests_are_logged_as_asked() -> Result<()> {
    let _backend = Backend::start(BACKEND, "one").await?;
    let directory = tempfile::tempdir()?;
    let mut serve = gateway(directory.path()).await?;
    let formats = [
        ("server_name: a", "GET /a/x0 HTTP/1.1\" 200 - 0 "),
        ("envoy_log_type: json", "\"response_code\":200"),
        ("envoy_log_type: typed_json", "\"response_code\":200"),
        (
            "envoy_log_format: 'mine %REQ(X-ENVOY-ORIGINAL-PATH?:PATH)%'",
            "mine /a/x3\n",
        ),
        (
            "envoy_log_type: typed_json, envoy_log_path: /dev/stderr, envoy_log_format: {code: '%RESPONSE_CODE%', in: {path: '%REQ(X-ENVOY-ORIGINAL-PATH?:PATH)%'}}",
            "{\"code\":200,\"in\":{\"path\":\"/a/x4\"}}",
        ),
    ];
    for (number, (config, line)) in formats.into_iter().enumerate() {
        write(directory.path(), "module.yaml", &module(config))?;
        let request = format!("GET /a/x{number} HTTP/1.1\r\n");
        until(config, || async {
            exchange(&request).await?;
            let log = fs::read_to_string(&serve.log)?;
            let path = format!("/a/x{number}");
            let mut lines = log
                .split_inclusive('\n')
                .filter(|found| found.contains(&path));
            ensure!(
                lines.any(|found| found.contains(line)),
                "no line with {line:?}"
            );
            Ok(())
        })
        .await?;
    }
    stops(&mut serve, Signal::TERM)?;
    gone().await
}

/// A Module with this script, and other keys.
fn script(code: &str, more: &str) -> String {
    module(&format!("lua_scripts: \"{code}\"{more}"))
}

/// A script that adds a header to responses.
fn adding(value: &str) -> String {
    format!("function envoy_on_response(h) h:headers():add('x-lua', '{value}') end")
}

/// Waits for a response of the backend with this text.
async fn answers(expected: &str) -> Result<()> {
    until(expected, || async {
        let response = exchange(GET).await?;
        ensure!(
            response.contains(expected) && response.contains("200 OK"),
            "{response}"
        );
        Ok(())
    })
    .await
}

/// How often Envoy has rejected something.
fn rejections(serve: &Process) -> Result<usize> {
    let log = fs::read_to_string(&serve.log)?;
    Ok(log.matches("Envoy rejected configuration").count())
}

fn listener(port: u16) -> String {
    format!(
        "apiVersion: getambassador.io/v3alpha1\nkind: Listener\nmetadata: {{name: l{port}}}\nspec: {{port: {port}, protocol: HTTP, securityModel: XFP, hostBinding: {{namespace: {{from: ALL}}}}}}\n"
    )
}

/// Adds a Listener, and waits until it serves requests.
async fn add_listener(directory: &Path, port: u16) -> Result<()> {
    write(directory, &format!("l{port}.yaml"), &listener(port))?;
    let address = format!("127.0.0.1:{port}");
    until(&address, || async {
        let answer = get(&address, "localhost", "/a/").await?;
        ensure!(answer.status == 200, "{}", answer.status);
        Ok(())
    })
    .await
}

pub(crate) async fn a_script_with_a_syntax_error_changes_nothing() -> Result<()> {
    let _backend = Backend::start(BACKEND, "one").await?;
    let directory = tempfile::tempdir()?;
    let path = directory.path();
    let mut serve = gateway(path).await?;
    let broken = "function envoy_on_response(";
    // the other keys of the Module are served
    write(path, "module.yaml", &script(broken, ", server_name: none"))?;
    answers("server: none\r\n").await?;
    ensure!(!exchange(GET).await?.contains("x-lua"));
    add_listener(path, 8081).await?;

    write(path, "module.yaml", &script(&adding("first"), ""))?;
    answers("x-lua: first").await?;
    write(path, "module.yaml", &script(broken, ", server_name: kept"))?;
    answers("server: kept\r\n").await?;
    answers("x-lua: first").await?;
    add_listener(path, 8082).await?;
    let answer = get("127.0.0.1:8082", "localhost", "/a/").await?;
    let header = answer.headers.get("x-lua").map(String::as_str);
    ensure!(header == Some("first"), "{header:?}");

    write(path, "module.yaml", &script(&adding("next"), ""))?;
    answers("x-lua: next").await?;
    ensure!(rejections(&serve)? == 0, "Envoy has got a broken script");

    // a replica that knows no script does not leave out one that may deny requests
    stops(&mut serve, Signal::TERM)?;
    gone().await?;
    write(path, "module.yaml", &script(broken, ""))?;
    let mut serve = self::serve(path)?;
    until("503", || async {
        let response = exchange(GET).await?;
        ensure!(response.contains("503 "), "{response}");
        Ok(())
    })
    .await?;
    let ready = exchange("GET /ambassador/v0/check_ready HTTP/1.1\r\n").await?;
    ensure!(ready.contains("200 OK"), "{ready}");
    fs::remove_file(path.join("module.yaml"))?;
    answers("one GET /").await?;
    stops(&mut serve, Signal::TERM)?;
    gone().await
}

pub(crate) async fn a_script_that_fails_at_its_top_level_leaves_the_one_before() -> Result<()> {
    let _backend = Backend::start(BACKEND, "one").await?;
    let directory = tempfile::tempdir()?;
    let mut serve = gateway(directory.path()).await?;
    write(
        directory.path(),
        "module.yaml",
        &script(&adding("first"), ""),
    )?;
    answers("x-lua: first").await?;
    for broken in ["error('at the top')", "x.y()"] {
        let before = rejections(&serve)?;
        write(directory.path(), "module.yaml", &script(broken, ""))?;
        until(broken, || async {
            ensure!(
                rejections(&serve)? > before,
                "Envoy has not rejected it yet"
            );
            Ok(())
        })
        .await?;
        answers("x-lua: first").await?;
    }
    let next = script(&adding("next"), ", server_name: next");
    write(directory.path(), "module.yaml", &next)?;
    answers("x-lua: next").await?;
    answers("server: next\r\n").await?;
    stops(&mut serve, Signal::TERM)?;
    gone().await
}

pub(crate) async fn adding_changing_and_removing_keys_loses_no_request() -> Result<()> {
    let _backend = Backend::start(BACKEND, "one").await?;
    let directory = tempfile::tempdir()?;
    let mut serve = gateway(directory.path()).await?;
    let loads = Loads::start(HTTP, "localhost", "/a/");
    let configs = [
        "server_name: s0",
        "server_name: s1, gzip: {}, lua_scripts: 'function envoy_on_response(h) end'",
        "server_name: s2, gzip: {min_content_length: 100}, ip_allow: [{peer: 127.0.0.1}]",
        "server_name: s3, ip_allow: [{peer: 127.0.0.0/8}], buffer: {max_request_bytes: 1000}, enable_grpc_web: true",
        "server_name: s4, ip_deny: [{peer: 10.0.0.0/8}], cluster_request_timeout_ms: 4000, load_balancer: {policy: least_request}",
        "server_name: s5, grpc_stats: {}, envoy_log_type: json, cluster_idle_timeout_ms: 5000",
        "server_name: s6, diagnostics: {enabled: true}, defaults: {add_response_headers: {x-a: b}}",
    ];
    for (number, config) in configs.iter().enumerate() {
        write(directory.path(), "module.yaml", &module(config))?;
        until(config, || async {
            let response = exchange(GET).await?;
            ensure!(
                response.contains(&format!("server: s{number}\r\n")),
                "{response}"
            );
            Ok(())
        })
        .await?;
    }
    fs::remove_file(directory.path().join("module.yaml"))?;
    until("the end of the Module", || async {
        let response = exchange(GET).await?;
        ensure!(response.contains("server: envoy\r\n"), "{response}");
        Ok(())
    })
    .await?;
    loads.finish().await?;
    stops(&mut serve, Signal::TERM)?;
    gone().await
}
