//! An invalid object has a condition, and affects no other.

use anyhow::{Result, ensure};
use nuncio_e2e::{backend::Backend, wait::until};

use crate::{
    Space,
    fixture::{host, mapping, object},
    status::{condition, uncontested},
};

pub(crate) async fn an_invalid_object_affects_no_other(space: &Space) -> Result<()> {
    let _good = Backend::start("10.96.6.1:80", "good").await?;
    let manifests = [
        host("bad", "bad.example", ""),
        mapping("good", "bad.example", "/good/", "10.96.6.1", ""),
        mapping(
            "regex",
            "bad.example",
            "'/('",
            "10.96.6.1",
            ", prefix_regex: true",
        ),
        mapping("hostname", "'no host'", "/", "10.96.6.1", ""),
        mapping("service", "bad.example", "/service/", "a:b:c", ""),
        "apiVersion: getambassador.io/v3alpha1\nkind: Mapping\nmetadata: {name: no-spec}\n---\n"
            .to_owned(),
        "apiVersion: getambassador.io/v3alpha1\nkind: Host\nmetadata: {name: no-spec}\n".to_owned(),
    ];
    space.apply(&manifests.concat())?;
    condition(space, "mapping/regex", "Accepted", "False", "spec.prefix").await?;
    condition(
        space,
        "mapping/hostname",
        "Accepted",
        "False",
        "spec.hostname",
    )
    .await?;
    condition(
        space,
        "mapping/service",
        "Accepted",
        "False",
        "spec.service",
    )
    .await?;
    condition(
        space,
        "mapping/no-spec",
        "Accepted",
        "False",
        "spec is missing",
    )
    .await?;
    condition(space, "mapping/good", "Programmed", "True", "").await?;
    space.answers("bad.example", "/good/", 200, "good").await?;
    what_the_apiserver_rejects(space)
}

fn what_the_apiserver_rejects(space: &Space) -> Result<()> {
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
            space.apply(&manifest).is_err(),
            "the apiserver accepted {what}"
        );
    }
    Ok(())
}

pub(crate) async fn an_invalid_edit_removes_the_object_until_it_is_fixed(
    space: &Space,
) -> Result<()> {
    let _good = Backend::start("10.96.6.3:80", "good").await?;
    let manifests = [
        host("fixed", "fixed.example", ""),
        mapping("fixed", "fixed.example", "/good/", "10.96.6.3", ""),
        mapping("beside", "fixed.example", "/beside/", "10.96.6.3", ""),
    ];
    space.apply(&manifests.concat())?;
    space
        .answers("fixed.example", "/good/", 200, "good")
        .await?;
    space.apply(&mapping(
        "fixed",
        "fixed.example",
        "'/('",
        "10.96.6.3",
        ", prefix_regex: true",
    ))?;
    space.answers("fixed.example", "/good/", 404, "").await?;
    space
        .answers("fixed.example", "/beside/", 200, "good")
        .await?;
    space.apply(&mapping(
        "fixed",
        "fixed.example",
        "/good/",
        "10.96.6.3",
        ", prefix_regex: false",
    ))?;
    space
        .answers("fixed.example", "/good/", 200, "good")
        .await?;
    Ok(())
}

pub(crate) async fn a_secret_without_key_is_told_on_its_host(space: &Space) -> Result<()> {
    let secret = "apiVersion: v1\nkind: Secret\nmetadata: {name: no-key}\nstringData: {tls.crt: nothing}\n---\n";
    space.apply(
        &[
            secret,
            &host("no-key", "no-key.example", ", tlsSecret: {name: no-key}"),
        ]
        .concat(),
    )?;
    condition(
        space,
        "host/no-key",
        "ResolvedRefs",
        "False",
        "tls.key is missing",
    )
    .await?;
    space.apply(&host(
        "no-key",
        "no-key.example",
        ", tlsSecret: {name: gone}",
    ))?;
    condition(
        space,
        "host/no-key",
        "ResolvedRefs",
        "False",
        "SecretNotFound",
    )
    .await
}

pub(crate) async fn two_listeners_on_one_port_both_say_so(space: &Space) -> Result<()> {
    let listener = |name: &str| {
        let spec = "port: 9170, protocol: HTTP, securityModel: XFP, hostBinding: {namespace: {from: SELF}}";
        object("Listener", name, spec)
    };
    space.apply(&[listener("a-first"), listener("z-second")].concat())?;
    condition(
        space,
        "listener/z-second",
        "Accepted",
        "False",
        "PortConflict",
    )
    .await?;
    condition(space, "listener/a-first", "Accepted", "True", "z-second").await?;
    space.delete("listener/z-second")?;
    uncontested(space, "listener/a-first", "z-second").await
}

pub(crate) async fn what_only_envoy_rejects_is_quarantined(space: &Space) -> Result<()> {
    // a port that is in use: only Envoy can find out. What it accepted before stays served.
    let _taken = tokio::net::TcpListener::bind(space.gateway.instance.port(8099)).await?;
    let listener = "apiVersion: getambassador.io/v3alpha1\nkind: Listener\nmetadata: {name: taken}\nspec: {port: 8099, protocol: HTTP, securityModel: XFP, hostBinding: {namespace: {from: ALL}}}\n";
    space.apply(listener)?;
    condition(space, "listener/taken", "Programmed", "False", "Rejected").await?;
    let _backend = Backend::start("10.96.6.2:80", "on").await?;
    let manifests = [
        host("goes-on", "goes-on.example", ""),
        mapping("goes-on", "goes-on.example", "/", "10.96.6.2", ""),
    ];
    space.apply(&manifests.concat())?;
    space.answers("goes-on.example", "/", 200, "on").await?;
    condition(space, "mapping/goes-on", "Programmed", "True", "").await?;
    space.delete("listener/taken")?;
    until("the end of the rejected Listener", || async {
        ensure!(
            space.field("listener/taken", "{.metadata.name}").is_err(),
            "it still exists"
        );
        Ok(())
    })
    .await?;
    condition(space, "listener/http", "Programmed", "True", "").await
}
