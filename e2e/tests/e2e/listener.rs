//! Listeners: which Hosts they serve, which one has the port, and what an edit does to connections.

use anyhow::{Context as _, Result, ensure};
use nuncio_e2e::{
    backend::Backend,
    certificate::Authority,
    client::{Load, get, tls_config},
    wait::until,
};
use rustls::ClientConfig;
use tokio::net::TcpStream;

use crate::{
    Space,
    fixture::{labelled, mapping, object},
    status::{condition, programmed, uncontested},
};

fn namespace(name: &str, labels: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Namespace\nmetadata: {{name: {name}, labels: {{{labels}}}}}\n---\n"
    )
}

/// Hosts by namespace, that of the Listeners or another, and side.
const HOSTS: [(&str, &str); 4] = [
    ("near", "left"),
    ("near", "right"),
    ("far", "left"),
    ("far", "right"),
];

/// Waits until a port serves these of [`HOSTS`] and no other.
async fn serves(port: u16, served: &[&str]) -> Result<()> {
    until(&format!("Hosts on port {port}"), || async {
        for (place, side) in HOSTS {
            let name = format!("{place}-{side}");
            let answer = get(
                &format!("127.0.0.1:{port}"),
                &format!("{name}.bind.example"),
                "/",
            )
            .await?;
            let expected = if served.contains(&&*name) { 200 } else { 404 };
            ensure!(
                answer.status == expected,
                "{name} is answered with {}",
                answer.status
            );
        }
        Ok(())
    })
    .await
}

pub(crate) async fn hosts_are_bound_by_namespace_and_label(space: &Space) -> Result<()> {
    let _backend = Backend::start("10.96.52.1:80", "bound").await?;
    let listener = |port: u16, binding: &str| {
        let spec =
            format!("port: {port}, protocol: HTTP, securityModel: XFP, hostBinding: {{{binding}}}");
        object("Listener", &format!("bind-{port}"), &spec)
    };
    let host = |name: &str, side: &str| {
        let spec = format!(
            "hostname: {name}.bind.example, requestPolicy: {{insecure: {{action: Route, additionalPort: 9159}}}}"
        );
        labelled("Host", name, &format!("side: {side}"), &spec)
    };
    let (near, far) = (&space.namespace, format!("{}-far", space.namespace));
    let listeners = [
        mapping("bind", "'*.bind.example'", "/", "10.96.52.1", ""),
        listener(9150, "namespace: {from: SELF}"),
        listener(
            9151,
            "namespace: {from: ALL}, selector: {matchLabels: {side: left}}",
        ),
        listener(
            9152,
            "namespace: {from: SELECTOR, selector: {matchLabels: {team: red}}}",
        ),
        listener(9153, "selector: {matchLabels: {side: left}}"),
    ];
    space.apply(&[namespace(near, ""), namespace(&far, "team: red")].concat())?;
    space.apply(&listeners.concat())?;
    for (place, side) in HOSTS {
        let namespace = if place == "near" { near } else { &far };
        let host = host(&format!("{place}-{side}"), side);
        space.plane.apply(namespace, &host)?;
    }
    serves(9150, &["near-left", "near-right"]).await?;
    serves(9151, &["near-left", "far-left"]).await?;
    serves(9152, &["far-left", "far-right"]).await?;
    serves(9153, &["near-left"]).await?;
    ensure!(
        TcpStream::connect("127.0.0.1:9159").await.is_err(),
        "additionalPort opens a port"
    );
    condition(
        space,
        "host/near-left",
        "Accepted",
        "True",
        "additionalPort",
    )
    .await?;
    // labels of a Host, labels of a namespace, and the binding itself
    space.plane.apply(&far, &host("far-right", "left"))?;
    let edits = [
        namespace(near, "team: red"),
        namespace(&far, "team: blue"),
        listener(9150, "namespace: {from: ALL}"),
        listener(9153, "selector: {matchLabels: {side: right}}"),
    ];
    space.apply(&edits.concat())?;
    serves(9150, &["near-left", "near-right", "far-left", "far-right"]).await?;
    serves(9151, &["near-left", "far-left", "far-right"]).await?;
    serves(9152, &["near-left", "near-right"]).await?;
    serves(9153, &["near-right"]).await
}

pub(crate) async fn the_first_by_name_serves_the_port_and_goes_on(space: &Space) -> Result<()> {
    let _backend = Backend::start("10.96.52.2:80", "clash").await?;
    let listener = |side: &str| {
        let spec = format!(
            "port: 9160, protocol: HTTP, securityModel: XFP, hostBinding: {{selector: {{matchLabels: {{clash: {side}}}}}}}"
        );
        labelled("Listener", &format!("clash-{side}"), "test: clash", &spec)
    };
    let host = |side: &str| {
        let spec = format!(
            "hostname: {side}.clash.example, requestPolicy: {{insecure: {{action: Route}}}}"
        );
        labelled(
            "Host",
            &format!("clash-{side}"),
            &format!("test: clash, clash: {side}"),
            &spec,
        )
    };
    let manifests = [
        listener("a"),
        host("a"),
        host("b"),
        mapping("clash", "'*.clash.example'", "/", "10.96.52.2", ""),
    ];
    space.apply(&manifests.concat())?;
    serves_side("a").await?;
    let load = Load::start("127.0.0.1:9160", "a.clash.example", "/");
    for _ in 0..3 {
        space.apply(&listener("b"))?;
        condition(
            space,
            "listener/clash-b",
            "Accepted",
            "False",
            &format!("Listener {}/clash-a", space.namespace),
        )
        .await?;
        condition(
            space,
            "listener/clash-a",
            "Accepted",
            "True",
            &format!("Listener {}/clash-b", space.namespace),
        )
        .await?;
        programmed(space, "listener/clash-a").await?;
        serves_side("a").await?;
        space.delete("listener/clash-b")?;
        uncontested(space, "listener/clash-a", "clash-b").await?;
    }
    let sent = load.finish().await?;
    ensure!(
        sent.connections == 1,
        "{sent:?}: another Listener on the port closes connections"
    );
    // the second gets the port when the first is deleted, and loses it when it is back: the name decides, not the age
    space.apply(&listener("b"))?;
    space.delete("listener/clash-a")?;
    serves_side("b").await?;
    uncontested(space, "listener/clash-b", "clash-a").await?;
    space.apply(&listener("a"))?;
    serves_side("a").await?;
    condition(
        space,
        "listener/clash-b",
        "Accepted",
        "False",
        &format!("Listener {}/clash-a", space.namespace),
    )
    .await
}

/// Waits until the port serves the Host of one side only.
async fn serves_side(side: &str) -> Result<()> {
    until(&format!("side {side}"), || async {
        for found in ["a", "b"] {
            let answer = get("127.0.0.1:9160", &format!("{found}.clash.example"), "/").await?;
            let expected = if found == side { 200 } else { 404 };
            ensure!(
                answer.status == expected,
                "{found} is answered with {}",
                answer.status
            );
        }
        Ok(())
    })
    .await
}

/// The Listener that is edited.
fn edited(binding: &str, more: &str) -> String {
    let spec = format!("port: 9161, hostBinding: {{{binding}}}, {more}");
    labelled("Listener", "edited", "test: edited", &spec)
}

const ALL: &str = "namespace: {from: ALL}, selector: {matchLabels: {test: edited}}";
const USUAL: &str = "protocol: HTTPS, securityModel: XFP";

pub(crate) async fn an_edit_of_a_listener_drops_no_connection(space: &mut Space) -> Result<()> {
    // connections that an edit drains are closed at once, not within ten minutes
    space
        .own_gateway()?
        .envoy
        .restart_with(&["--drain-strategy", "immediate"])?;
    edits_drop_nothing(space).await
}

async fn edits_drop_nothing(space: &Space) -> Result<()> {
    let _backend = Backend::start("10.96.52.3:80", "edited").await?;
    let authority = Authority::new()?;
    let host = |name: &str, more: &str| {
        let spec = format!(
            "hostname: {name}.edited.example, tlsSecret: {{name: edited}}, requestPolicy: {{insecure: {{action: Route}}}}, tls: {{alpn_protocols: 'h2,http/1.1'}}"
        );
        labelled(
            "Host",
            &format!("edited-{name}"),
            &format!("test: edited{more}"),
            &spec,
        )
    };
    let manifests = [
        authority
            .issue(&["*.edited.example"])?
            .secret(&space.namespace, "edited"),
        host("one", ", some: few"),
        host("two", ", some: few"),
        host("other", ""),
        mapping("edited", "'*.edited.example'", "/", "10.96.52.3", ""),
        edited(ALL, USUAL),
    ];
    space.apply(&manifests.concat())?;
    let config = tls_config(&authority.der(), None)?;
    let loads = loads(&space.gateway.instance.port(9161), &config).await?;
    let few = "selector: {matchLabels: {test: edited, some: few}}";
    // HTTP settings are fixed when a connection is opened, so Envoy closes connections when they change.
    for (binding, more, connections) in [
        (few, USUAL, 1),
        (ALL, USUAL, 1),
        (
            ALL,
            "protocolStack: [TLS, HTTP, TCP], securityModel: XFP",
            1,
        ),
        (ALL, "protocol: HTTPS, securityModel: INSECURE", 1),
        (ALL, USUAL, 1),
        (
            ALL,
            "protocol: HTTPS, securityModel: XFP, statsPrefix: edited",
            2,
        ),
        (
            few,
            "protocol: HTTPS, securityModel: XFP, statsPrefix: edited",
            2,
        ),
        (ALL, "protocol: HTTPS, securityModel: XFP, l7Depth: 1", 3),
        (
            ALL,
            "protocol: HTTPS, securityModel: XFP, http2MaxConcurrentStreams: 50",
            4,
        ),
    ] {
        space.apply(&edited(binding, more))?;
        programmed(space, "listener/edited").await?;
        for (what, load) in &loads {
            let before = load.sent().requests;
            until("more requests", || async {
                ensure!(
                    load.sent().requests > before + 40,
                    "too few requests are sent"
                );
                Ok(())
            })
            .await?;
            let sent = load.sent();
            ensure!(
                sent.connections == connections,
                "{what}: {sent:?}, {connections} connections were expected after {binding}, {more}"
            );
        }
    }
    for (what, load) in loads {
        load.finish().await.context(what)?;
    }
    Ok(())
}

/// One connection of each kind.
async fn loads(edited: &str, config: &ClientConfig) -> Result<[(&'static str, Load); 4]> {
    let started = || {
        [
            ("HTTP/1.1", Load::start(edited, "one.edited.example", "/")),
            (
                "HTTP/1.1 of another Host",
                Load::start(edited, "two.edited.example", "/"),
            ),
            (
                "HTTP/1.1 with TLS",
                Load::start_tls(edited, "one.edited.example", "/", config.clone()),
            ),
            (
                "HTTP/2",
                Load::start_http2(edited, "two.edited.example", "/", config.clone()),
            ),
        ]
    };
    until("all Hosts", || async {
        for (_, load) in started() {
            until("a request", || async {
                ensure!(load.sent().requests > 30, "no request is sent");
                Ok(())
            })
            .await?;
            load.finish().await?;
        }
        Ok(())
    })
    .await?;
    Ok(started())
}
