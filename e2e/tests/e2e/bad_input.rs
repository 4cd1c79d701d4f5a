//! A bad object says so itself, and harms no other.

use anyhow::{Result, ensure};
use nuncio_e2e::backend::Backend;

use crate::{
    World,
    fixture::{host, mapping},
    routing::answers,
    status::condition,
};

pub(crate) async fn an_invalid_object_harms_no_other(world: &mut World) -> Result<()> {
    let _good = Backend::start("10.96.6.1:80", "good").await?;
    let manifests = [
        host("bad", "bad.example", ""),
        mapping("good", "bad.example", "/good/", "10.96.6.1", ""),
        mapping("regex", "bad.example", "'/('", "10.96.6.1", ", prefix_regex: true"),
        mapping("hostname", "'no host'", "/", "10.96.6.1", ""),
        mapping("service", "bad.example", "/service/", "a:b:c", ""),
        "apiVersion: getambassador.io/v3alpha1\nkind: Mapping\nmetadata: {name: no-spec, namespace: default}\n---\n".to_owned(),
        "apiVersion: getambassador.io/v3alpha1\nkind: Host\nmetadata: {name: no-spec, namespace: elsewhere}\n".to_owned(),
    ];
    world
        .plane
        .kubectl(&["create", "namespace", "elsewhere"], "")?;
    world.plane.apply(&manifests.concat())?;
    condition(world, "mapping/regex", "Accepted", "False", "spec.prefix").await?;
    condition(
        world,
        "mapping/hostname",
        "Accepted",
        "False",
        "spec.hostname",
    )
    .await?;
    condition(
        world,
        "mapping/service",
        "Accepted",
        "False",
        "spec.service",
    )
    .await?;
    condition(
        world,
        "mapping/no-spec",
        "Accepted",
        "False",
        "spec is missing",
    )
    .await?;
    condition(world, "mapping/good", "Programmed", "True", "").await?;
    answers("bad.example", "/good/", 200, "good").await?;
    what_the_apiserver_refuses(world)?;
    world
        .plane
        .kubectl(&["delete", "host", "-n", "elsewhere", "no-spec"], "")?;
    Ok(())
}

fn what_the_apiserver_refuses(world: &World) -> Result<()> {
    for (what, manifest) in [
        (
            "a wrong type",
            mapping("wrong", "bad.example", "5", "10.96.6.1", ""),
        ),
        (
            "an unknown field",
            mapping("wrong", "bad.example", "/x/", "10.96.6.1", ", rewrit: /"),
        ),
        (
            "two megabytes",
            mapping(
                "wrong",
                "bad.example",
                "/x/",
                "10.96.6.1",
                &format!(", docs: {{path: {}}}", "x".repeat(2 << 20)),
            ),
        ),
    ] {
        ensure!(
            world.plane.apply(&manifest).is_err(),
            "the apiserver took {what}"
        );
    }
    Ok(())
}

pub(crate) async fn an_edit_that_is_wrong_takes_the_object_out_until_it_is_mended(
    world: &mut World,
) -> Result<()> {
    let _good = Backend::start("10.96.6.1:80", "good").await?;
    let manifests = [
        host("mended", "mended.example", ""),
        mapping("mended", "mended.example", "/good/", "10.96.6.1", ""),
        mapping("beside", "mended.example", "/beside/", "10.96.6.1", ""),
    ];
    world.plane.apply(&manifests.concat())?;
    answers("mended.example", "/good/", 200, "good").await?;
    world.plane.apply(&mapping(
        "mended",
        "mended.example",
        "'/('",
        "10.96.6.1",
        ", prefix_regex: true",
    ))?;
    answers("mended.example", "/good/", 404, "").await?;
    answers("mended.example", "/beside/", 200, "good").await?;
    world.plane.apply(&mapping(
        "mended",
        "mended.example",
        "/good/",
        "10.96.6.1",
        ", prefix_regex: false",
    ))?;
    answers("mended.example", "/good/", 200, "good").await?;
    Ok(())
}

pub(crate) async fn a_secret_without_key_is_told_on_its_host(world: &mut World) -> Result<()> {
    let secret = "apiVersion: v1\nkind: Secret\nmetadata: {name: no-key, namespace: default}\nstringData: {tls.crt: nothing}\n---\n";
    world.plane.apply(
        &[
            secret,
            &host("no-key", "no-key.example", ", tlsSecret: {name: no-key}"),
        ]
        .concat(),
    )?;
    condition(
        world,
        "host/no-key",
        "ResolvedRefs",
        "False",
        "tls.key is missing",
    )
    .await?;
    world.plane.apply(&host(
        "no-key",
        "no-key.example",
        ", tlsSecret: {name: gone}",
    ))?;
    condition(
        world,
        "host/no-key",
        "ResolvedRefs",
        "False",
        "SecretNotFound",
    )
    .await
}

pub(crate) async fn two_listeners_on_one_port_both_say_so(world: &mut World) -> Result<()> {
    let second = "apiVersion: getambassador.io/v3alpha1\nkind: Listener\nmetadata: {name: z-second, namespace: default}\nspec: {port: 8080, protocol: HTTP, securityModel: INSECURE, hostBinding: {namespace: {from: ALL}}}\n";
    world.plane.apply(second)?;
    condition(
        world,
        "listener/z-second",
        "Accepted",
        "False",
        "PortConflict",
    )
    .await?;
    condition(world, "listener/http", "Accepted", "True", "z-second").await?;
    world.plane.delete("default", "listener/z-second")?;
    condition(world, "listener/http", "Accepted", "True", "").await
}

pub(crate) async fn what_envoy_alone_refuses_is_quarantined(world: &mut World) -> Result<()> {
    // a port that something else holds: only Envoy can know. What it accepted before is served on.
    let _taken = tokio::net::TcpListener::bind("0.0.0.0:8099").await?;
    let listener = "apiVersion: getambassador.io/v3alpha1\nkind: Listener\nmetadata: {name: taken, namespace: default}\nspec: {port: 8099, protocol: HTTP, securityModel: XFP, hostBinding: {namespace: {from: ALL}}}\n";
    world.plane.apply(listener)?;
    condition(world, "listener/taken", "Programmed", "False", "Rejected").await?;
    let _backend = Backend::start("10.96.6.2:80", "on").await?;
    let manifests = [
        host("goes-on", "goes-on.example", ""),
        mapping("goes-on", "goes-on.example", "/", "10.96.6.2", ""),
    ];
    world.plane.apply(&manifests.concat())?;
    answers("goes-on.example", "/", 200, "on").await?;
    condition(world, "mapping/goes-on", "Programmed", "True", "").await?;
    world.plane.delete("default", "listener/taken")?;
    condition(world, "listener/http", "Programmed", "True", "").await
}
