//! What a Mapping changes in requests and responses, seen from both ends.

use anyhow::{Result, ensure};
use nuncio_kat::server::{Http, Listen, Server};
use serde_json::{Value, json};

use crate::{
    Space,
    answer::{answered, answered_by, ask, backend, query, reached, returned},
    fixture::{host, mapping, service},
};

const HOST: &str = "change.example";

/// A Mapping to the backend of these tests.
fn to(name: &str, more: &str) -> String {
    let prefix = format!("/{name}/");
    mapping(&format!("change-{name}"), HOST, &prefix, "change", more)
}

pub(crate) async fn requests_reach_the_backend_as_asked(space: &Space) -> Result<()> {
    let listen = Listen::on("10.96.20.1:80");
    let _server = Server::start(&listen, Http::new("change").router()).await?;
    let manifests = [
        service("change", "10.96.20.1"),
        host("change", HOST, ""),
        to("plain", ""),
        to("kept", ", rewrite: ''"),
        to("rewritten", ", rewrite: /r/"),
        to(
            "regex",
            r", regex_rewrite: {pattern: '/regex/([a-z]+)/(.*)', substitution: '/\2/\1'}",
        ),
        to("literal", ", host_rewrite: inside.example"),
        to("automatic", ", auto_host_rewrite: true"),
        to(
            "added",
            ", add_request_headers: {x-a: {value: '%PROTOCOL%'}, x-b: {value: two, append: false}}, remove_request_headers: [x-c]",
        ),
        to("linkerd", ", add_linkerd_headers: true"),
        to("last", ""),
    ];
    space.apply(&manifests.concat())?;
    answered(&query(HOST, "/last/", &[]), 200).await?;
    for (path, expected) in [
        ("/plain/x?q=1", "/x"),
        ("/kept/x", "/kept/x"),
        ("/rewritten/x", "/r/x"),
        ("/regex/a/b", "/b/a"),
    ] {
        let answer = ask(query(HOST, path, &[])).await?;
        let found = &answer["json"]["request"]["url"]["path"];
        ensure!(found == expected, "{path} reached the backend as {found}");
    }
    for (path, expected) in [
        ("/plain/", HOST),
        ("/literal/", "inside.example"),
        ("/automatic/", &format!("change.{}", space.namespace)),
    ] {
        let answer = ask(query(HOST, path, &[])).await?;
        let found = &answer["json"]["request"]["host"];
        ensure!(
            found == expected,
            "{path} reached the backend for host {found}"
        );
    }
    let sent = [("x-a", "one"), ("x-b", "one"), ("x-c", "one")];
    let answer = ask(query(HOST, "/added/", &sent)).await?;
    ensure!(
        *reached(&answer, "x-a") == json!(["one", "HTTP/1.1"]),
        "{answer}"
    );
    ensure!(*reached(&answer, "x-b") == json!(["two"]), "{answer}");
    ensure!(reached(&answer, "x-c").is_null(), "{answer}");
    let answer = ask(query(HOST, "/linkerd/", &[])).await?;
    ensure!(
        *reached(&answer, "l5d-dst-override") == json!([format!("change.{}:80", space.namespace)]),
        "{answer}"
    );
    Ok(())
}

pub(crate) async fn responses_reach_the_client_as_asked(space: &Space) -> Result<()> {
    let listen = Listen::on("10.96.20.2:80");
    let _server = Server::start(&listen, Http::new("change").router()).await?;
    let manifests = [
        service("change-2", "10.96.20.2"),
        host("change-2", "response.example", ""),
        mapping(
            "response-headers",
            "response.example",
            "/headers/",
            "change-2",
            ", add_response_headers: {x-r: {value: '%RESPONSE_CODE%'}}, remove_response_headers: [kat-resp-http-request-body]",
        ),
        mapping(
            "response-cors",
            "response.example",
            "/cors/",
            "change-2",
            ", cors: {origins: ['http://a.example'], methods: [GET, PUT], headers: [x-a], exposed_headers: [x-b], credentials: true, max_age: '60'}",
        ),
        mapping(
            "response-error",
            "response.example",
            "/error/",
            "change-2",
            ", error_response_overrides: [{on_status_code: 503, body: {text_format: 'code %RESPONSE_CODE%', content_type: text/x-error}}, {on_status_code: 404, body: {json_format: {code: '%RESPONSE_CODE%'}}}]",
        ),
        mapping(
            "response-nobody",
            "response.example",
            "/nobody/",
            "10.96.20.250",
            ", error_response_overrides: [{on_status_code: 503, body: {text_format: nobody}}]",
        ),
    ];
    space.apply(&manifests.concat())?;
    // the Mapping that was applied last
    answered(&query("response.example", "/nobody/", &[]), 503).await?;
    headers_are_changed().await?;
    origins_are_checked().await?;
    errors_are_replaced().await
}

async fn headers_are_changed() -> Result<()> {
    let answer = answered(&query("response.example", "/headers/", &[]), 200).await?;
    ensure!(*returned(&answer, "X-R") == json!(["200"]), "{answer}");
    ensure!(
        returned(&answer, "Kat-Resp-Http-Request-Body").is_null(),
        "{answer}"
    );
    Ok(())
}

async fn origins_are_checked() -> Result<()> {
    let origin = [("Origin", "http://a.example")];
    let mut preflight = query(
        "response.example",
        "/cors/",
        &[
            ("Origin", "http://a.example"),
            ("Access-Control-Request-Method", "PUT"),
        ],
    );
    preflight["method"] = json!("OPTIONS");
    let answer = answered(&preflight, 200).await?;
    for (name, value) in [
        ("Access-Control-Allow-Origin", "http://a.example"),
        ("Access-Control-Allow-Methods", "GET, PUT"),
        ("Access-Control-Allow-Headers", "x-a"),
        ("Access-Control-Allow-Credentials", "true"),
        ("Access-Control-Max-Age", "60"),
    ] {
        ensure!(
            *returned(&answer, name) == json!([value]),
            "{name} of {answer}"
        );
    }
    ensure!(
        backend(&answer).is_empty(),
        "a preflight request reached the backend"
    );
    let answer = ask(query("response.example", "/cors/", &origin)).await?;
    ensure!(
        *returned(&answer, "Access-Control-Expose-Headers") == json!(["x-b"]),
        "{answer}"
    );
    let answer = ask(query(
        "response.example",
        "/cors/",
        &[("Origin", "http://b.example")],
    ))
    .await?;
    ensure!(
        returned(&answer, "Access-Control-Allow-Origin").is_null(),
        "{answer}"
    );
    Ok(())
}

async fn errors_are_replaced() -> Result<()> {
    let status = |code| [("Kat-Req-Http-Requested-Status", code)];
    let answer = ask(query("response.example", "/error/", &status("503"))).await?;
    ensure!(
        answer["status"] == 503 && answer["text"] == "code 503",
        "{answer}"
    );
    ensure!(
        *returned(&answer, "Content-Type") == json!(["text/x-error"]),
        "{answer}"
    );
    let answer = ask(query("response.example", "/error/", &status("404"))).await?;
    ensure!(
        answer["json"] == json!({"code": 404}) || answer["json"] == json!({"code": "404"}),
        "{answer}"
    );
    let answer = ask(query("response.example", "/error/", &status("500"))).await?;
    ensure!(
        answer["json"]["backend"] == "change",
        "an error without an override keeps its body: {answer}"
    );
    let answer = ask(query("response.example", "/nobody/", &[])).await?;
    ensure!(
        answer["status"] == 503 && answer["text"] == "nobody",
        "{answer}"
    );
    Ok(())
}

pub(crate) async fn redirects_send_clients_elsewhere(space: &Space) -> Result<()> {
    let to = |name: &str, service: &str, more: &str| {
        let prefix = format!("/{name}/");
        mapping(
            &format!("moved-{name}"),
            "moved.example",
            &prefix,
            service,
            &format!(", host_redirect: true{more}"),
        )
    };
    let manifests = [
        host("moved", "moved.example", ""),
        to("host", "new.example", ""),
        to(
            "path",
            "new.example",
            ", path_redirect: /p, redirect_response_code: 302",
        ),
        to(
            "prefix",
            "https://new.example:8443",
            ", prefix_redirect: /b/, redirect_response_code: 303",
        ),
        to(
            "regex",
            "new.example",
            r", regex_redirect: {pattern: '/regex/([a-z]+)', substitution: '/\1/x'}, redirect_response_code: 307",
        ),
        to("code", "new.example", ", redirect_response_code: 308"),
    ];
    space.apply(&manifests.concat())?;
    for (path, status, location) in [
        ("/code/a?q=1", 308, "http://new.example/code/a?q=1"),
        ("/host/a", 301, "http://new.example/host/a"),
        ("/path/a", 302, "http://new.example/p"),
        ("/prefix/a", 303, "https://new.example:8443/b/a"),
        ("/regex/abc", 307, "http://new.example/abc/x"),
    ] {
        let answer = answered(&query("moved.example", path, &[]), status).await?;
        let found = returned(&answer, "Location");
        ensure!(*found == json!([location]), "{path} redirects to {found}");
    }
    Ok(())
}

pub(crate) async fn requests_are_told_apart(space: &Space) -> Result<()> {
    let mut servers = Vec::new();
    let mut manifests = vec![host("apart", "apart.example", "")];
    let rules = [
        ("rest", "prefix: /"),
        ("exact", "prefix: /exact, prefix_exact: true"),
        ("regex", "prefix: '/regex/[0-9]+', prefix_regex: true"),
        ("caseless", "prefix: /Caseless/, case_sensitive: false"),
        ("method", "prefix: /m/, method: PUT"),
        (
            "methods",
            "prefix: /m/, method: 'P(OST|ATCH)', method_regex: true",
        ),
        ("header", "prefix: /h/, headers: {x-a: one}"),
        ("pattern", "prefix: /h/, regex_headers: {x-a: 'two.*'}"),
        ("query", "prefix: /q/, query_parameters: {a: one}"),
        (
            "queries",
            "prefix: /q/, regex_query_parameters: {a: 'two.*'}",
        ),
        (
            "first",
            "prefix: /, precedence: 10, headers: {x-first: 'yes'}",
        ),
    ];
    for (index, (name, rule)) in rules.iter().enumerate() {
        let address = format!("10.96.21.{}", index + 1);
        let listen = Listen::on(format!("{address}:80"));
        servers.push(Server::start(&listen, Http::new(*name).router()).await?);
        manifests.push(format!("apiVersion: getambassador.io/v3alpha1\nkind: Mapping\nmetadata: {{name: apart-{name}}}\nspec: {{hostname: apart.example, service: '{address}', {rule}}}\n---\n"));
    }
    space.apply(&manifests.concat())?;
    let with = |method: &str, path: &str, headers: &[(&str, &str)]| -> Value {
        let mut query = query("apart.example", path, headers);
        query["method"] = json!(method);
        query
    };
    // the Mapping that was applied last
    answered_by(&with("GET", "/", &[("x-first", "yes")]), "first").await?;
    for (query, expected) in [
        (with("GET", "/elsewhere", &[]), "rest"),
        (with("GET", "/exact", &[]), "exact"),
        (with("GET", "/exact?q", &[]), "exact"),
        (with("GET", "/exact/", &[]), "rest"),
        (with("GET", "/regex/12", &[]), "regex"),
        (with("GET", "/regex/12/", &[]), "rest"),
        (with("GET", "/cASELESS/x", &[]), "caseless"),
        (with("PUT", "/m/", &[]), "method"),
        (with("PATCH", "/m/", &[]), "methods"),
        (with("GET", "/m/", &[]), "rest"),
        (with("GET", "/h/", &[("x-a", "one")]), "header"),
        (with("GET", "/h/", &[("x-a", "twofold")]), "pattern"),
        (with("GET", "/h/", &[("x-a", "three")]), "rest"),
        (with("GET", "/q/?b=1&a=one", &[]), "query"),
        (with("GET", "/q/?a=twofold", &[]), "queries"),
        (with("GET", "/q/?a=three", &[]), "rest"),
        (with("GET", "/exact", &[("x-first", "yes")]), "first"),
    ] {
        let answer = ask(query.clone()).await?;
        ensure!(
            backend(&answer) == expected,
            "{query} reached {:?}, not {expected}",
            backend(&answer)
        );
    }
    Ok(())
}

pub(crate) async fn many_routes_are_chosen_as_few_would_be(space: &Space) -> Result<()> {
    let listen = |name: &str, address: &str| {
        (
            Listen::on(format!("{address}:80")),
            Http::new(name).router(),
        )
    };
    let mut servers = Vec::new();
    for (name, address) in [
        ("even", "10.96.22.1"),
        ("odd", "10.96.22.2"),
        ("rest", "10.96.22.3"),
    ] {
        let (listen, router) = listen(name, address);
        servers.push(Server::start(&listen, router).await?);
    }
    let mut manifests = vec![
        host("many", "many.example", ""),
        mapping("many-rest", "many.example", "/", "10.96.22.3", ""),
        // before all others because of its precedence
        mapping(
            "many-first",
            "many.example",
            "/",
            "10.96.22.3",
            ", precedence: 1, headers: {x-rest: 'yes'}",
        ),
        mapping(
            "many-regex",
            "many.example",
            "'/s[0-9]+/regex/.*'",
            "10.96.22.3",
            ", prefix_regex: true",
        ),
    ];
    for number in 0..300 {
        let address = if number % 2 == 0 {
            "10.96.22.1"
        } else {
            "10.96.22.2"
        };
        manifests.push(mapping(
            &format!("many-{number}"),
            "many.example",
            &format!("/s{number}/"),
            address,
            "",
        ));
    }
    space.apply(&manifests.concat())?;
    answered_by(&query("many.example", "/s299/", &[]), "odd").await?;
    for number in 0..300 {
        let expected = if number % 2 == 0 { "even" } else { "odd" };
        for (path, headers, expected) in [
            (format!("/s{number}/x?y"), &[][..], expected),
            (format!("/s{number}"), &[][..], "rest"),
            (format!("/s{number}/"), &[("x-rest", "yes")][..], "rest"),
            (format!("/s{number}/regex/x"), &[][..], "rest"),
        ] {
            let answer = ask(query("many.example", &path, headers)).await?;
            ensure!(backend(&answer) == expected, "{path} reached {answer}");
        }
    }
    Ok(())
}
