//! What is patched in definitions, and what is not.

use anyhow::{Context as _, Result, ensure};
use nuncio_e2e::{gateway::Replica, instance::Instance, wait::until};
use serde_json::{Value, json};

use super::rig::{KINDS, Rig, SERVICE, Stored};

const NAME: &str = "mappings.getambassador.io";
/// The field manager of the webhook.
const MANAGER: &str = "nuncio-apiext";

impl Rig {
    fn patch_definition(&self, patch: &Value) -> Result<()> {
        let patch = patch.to_string();
        let patch = ["patch", "crd", NAME, "--type=merge", "-p", &patch];
        self.plane.kubectl(&patch, "").map(drop)
    }

    fn client_config(&self) -> Result<Value> {
        let definition = self.definition()?;
        Ok(definition["spec"]["conversion"]["webhook"]["clientConfig"].clone())
    }
}

pub(crate) async fn only_conversion_is_patched_and_what_others_change_is_undone() -> Result<()> {
    let mut rig = Rig::start(Stored::V2, 1).await?;
    let good = rig.client_config()?;
    let service = json!({"name": SERVICE, "namespace": "nuncio-system", "path": "/webhooks/crd-convert", "port": 443});
    ensure!(good["service"] == service, "{good}");
    ensure!(good["caBundle"].is_string(), "{good}");
    only_the_client_is_ours(&rig).await?;
    let client =
        |value: Value| json!({"spec": {"conversion": {"webhook": {"clientConfig": value}}}});
    for change in [
        json!({"caBundle": null}),
        json!({"service": {"name": "other"}}),
        json!({"service": {"namespace": "other", "path": "/other", "port": 8443}}),
        json!({"url": "https://other.example/", "service": null}),
    ] {
        rig.patch_definition(&client(change.clone()))?;
        until(&format!("{change} is undone"), || async {
            let found = rig.client_config()?;
            ensure!(found == good, "{found}");
            Ok(())
        })
        .await?;
    }
    rig.serves().await?;
    without_conversion_is_left_alone(&mut rig).await
}

async fn only_the_client_is_ours(rig: &Rig) -> Result<()> {
    let get = ["get", "crd", NAME, "-o", "json", "--show-managed-fields"];
    let definition: Value = serde_json::from_str(&rig.plane.kubectl(&get, "")?)?;
    let managers = definition["metadata"]["managedFields"].as_array();
    let own = managers
        .into_iter()
        .flatten()
        .find(|entry| entry["manager"] == MANAGER)
        .context("nothing is managed")?;
    let fields = json!({"f:spec": {"f:conversion": {"f:webhook": {"f:clientConfig": {
        "f:caBundle": {},
        "f:service": {"f:name": {}, "f:namespace": {}, "f:path": {}, "f:port": {}},
    }}}}});
    ensure!(
        own["fieldsV1"] == fields && own["operation"] == "Apply",
        "{own}"
    );
    let get = [
        "get",
        "crd",
        "listeners.getambassador.io",
        "-o",
        "jsonpath={.spec.conversion.strategy}",
    ];
    let strategy = rig.plane.kubectl(&get, "")?;
    ensure!(strategy == "None", "{strategy}");
    #[expect(clippy::cast_precision_loss, reason = "a small number")]
    let kinds = KINDS as f64;
    let called = rig
        .metric(1, "nuncio_apiext_definitions{state=\"called\"}")
        .await?;
    ensure!((called - kinds).abs() < 0.1, "{called}");
    Ok(())
}

/// An administrator has a reason to switch conversion off, and hears what that means.
async fn without_conversion_is_left_alone(rig: &mut Rig) -> Result<()> {
    rig.patch_definition(&json!({"spec": {"conversion": {"strategy": "None", "webhook": null}}}))?;
    until("the warning", || async {
        let log = rig.log(1)?;
        ensure!(
            log.contains("conversion strategy is None, but objects are stored"),
            "{log}"
        );
        let stored = rig
            .metric(1, "nuncio_apiext_definitions{state=\"stored_unconverted\"}")
            .await?;
        ensure!((stored - 1.0).abs() < 0.1, "{stored}");
        Ok(())
    })
    .await?;
    // and it is said at the next start, too
    rig.kill(1);
    rig.launch(1, &[])?;
    rig.ready(1).await?;
    until("the warning at the start", || async {
        let stored = rig
            .metric(1, "nuncio_apiext_definitions{state=\"stored_unconverted\"}")
            .await?;
        ensure!((stored - 1.0).abs() < 0.1, "{stored}");
        let log = rig.log(1)?;
        let number = log.matches("conversion strategy is None, but").count();
        ensure!(number >= 2, "{log}");
        Ok(())
    })
    .await?;
    let strategy = &rig.definition()?["spec"]["conversion"]["strategy"];
    ensure!(strategy == "None", "{strategy}");
    // whoever has no webhook at all hears it from the operator
    let kubeconfig = rig.plane.operator_kubeconfig();
    let operator = Replica::launch(&kubeconfig, &Instance::default(), 0)?;
    until("the warning of the operator", || async {
        let body = operator.readiness().await?;
        let text = "warning: stored API versions: conversion strategy is None: mappings.getambassador.io (v2)";
        ensure!(body.contains(text), "{body}");
        let number = operator.metric("nuncio_unconverted_definitions").await?;
        ensure!((number - 1.0).abs() < 0.1, "{number}");
        Ok(())
    })
    .await
}

pub(crate) async fn without_crd_management_another_program_sets_the_bundle() -> Result<()> {
    let mut rig = Rig::without_replicas(Stored::V2).await?;
    rig.launch(1, &[("DISABLE_CRD_MANAGEMENT", "true")])?;
    until("what is missing", || async {
        let (status, body) = rig.readiness(1).await?;
        let text = "caBundle does not have the authority that signs: ";
        ensure!(
            status == 503 && body.contains(text) && body.contains(NAME),
            "{status} {body}"
        );
        Ok(())
    })
    .await?;
    let authority = rig.secret()?.remove("tls.crt").unwrap_or_default();
    let get = ["get", "crd", "-o", "name"];
    let names = rig.plane.kubectl(&get, "")?;
    for name in names.lines().filter(|name| !name.contains("listeners")) {
        let bundle = json!({"spec": {"conversion": {"webhook": {"clientConfig": {"caBundle": base64(&authority)}}}}});
        let patch = bundle.to_string();
        let patch = ["patch", name, "--type=merge", "-p", &patch];
        rig.plane.kubectl(&patch, "")?;
    }
    rig.ready(1).await?;
    rig.serves().await?;
    let get = ["get", "crd", NAME, "-o", "json", "--show-managed-fields"];
    let text = rig.plane.kubectl(&get, "")?;
    ensure!(
        !text.contains("\"manager\": \"nuncio-apiext\""),
        "it was patched"
    );
    Ok(())
}

/// Base64 with padding.
fn base64(text: &str) -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut encoded = String::new();
    for chunk in text.as_bytes().chunks(3) {
        let mut bits = [0; 3];
        bits[..chunk.len()].copy_from_slice(chunk);
        let number = u32::from_be_bytes([0, bits[0], bits[1], bits[2]]);
        for place in 0..4 {
            let letter = LETTERS[(number >> (18 - 6 * place)) as usize & 63];
            encoded.push(if place > chunk.len() {
                '='
            } else {
                char::from(letter)
            });
        }
    }
    encoded
}
