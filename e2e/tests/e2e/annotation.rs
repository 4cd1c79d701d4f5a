//! Objects in the annotations of Services and Ingresses, and in directories beside the cluster.

use anyhow::{Result, ensure};
use nuncio_e2e::{backend::Backend, client::Load, wait::until};

use crate::{
    Space,
    fixture::{mapping, service},
    status::condition,
};

const HOST: &str = "annotation.example";

/// Documents as the annotation of an object, in its metadata.
fn annotated(kind: &str, name: &str, documents: &[&str], spec: &str) -> String {
    let lines = documents.join("\n---\n").replace('\n', "\n      ");
    let version = match kind {
        "Service" => "v1",
        _ => "networking.k8s.io/v1",
    };
    format!(
        "apiVersion: {version}\nkind: {kind}\nmetadata:\n  name: {name}\n  annotations:\n    getambassador.io/config: |\n      ---\n      {lines}\nspec: {spec}\n---\n"
    )
}

/// A Service with an annotation.
fn annotated_service(documents: &[&str]) -> String {
    let spec = "{clusterIP: 10.96.6.41, ports: [{name: http, port: 80}]}";
    annotated("Service", "annotated", documents, spec)
}

/// A Mapping in the flat form, of the instance.
fn flat(space: &Space, version: &str, name: &str, prefix: &str, service: &str) -> String {
    let id = &space.gateway.instance.id;
    format!(
        "apiVersion: {version}\nkind: Mapping\nname: {name}\nambassador_id: [{id}]\nhost: {HOST}\nprefix: {prefix}\nservice: {service}"
    )
}

/// Waits until the Events of an object, as `kubectl describe` shows them, contain all of these texts.
async fn described(space: &Space, object: &str, texts: &[&str]) -> Result<()> {
    until(&format!("Events of {object}"), || async {
        let arguments = ["-n", &space.namespace, "describe", object];
        let found = space.plane.kubectl(&arguments, "")?;
        let events = found.split("\nEvents:").nth(1).unwrap_or_default();
        for text in texts {
            ensure!(events.contains(text), "no {text:?} in {events}");
        }
        Ok(())
    })
    .await
}

pub(crate) async fn objects_in_annotations_come_and_go_under_load(space: &mut Space) -> Result<()> {
    let _one = Backend::start("10.96.6.41:80", "one").await?;
    let _two = Backend::start("10.96.6.42:80", "two").await?;
    space.apply(&service("other", "10.96.6.42"))?;
    let kept = flat(space, "ambassador/v2", "kept", "/kept/", "annotated");
    let flat = |prefix: &str, service: &str| {
        let version = "getambassador.io/v3alpha1";
        flat(space, version, "edited", prefix, service).replace("\nhost: ", "\nhostname: ")
    };
    let first = flat("/first/", "annotated");
    space.apply(&annotated_service(&[&kept, &first]))?;
    space.answers(HOST, "/kept/", 200, "one").await?;
    space.answers(HOST, "/first/", 200, "one").await?;

    let load = Load::start(&space.http(), HOST, "/kept/");
    // edited
    space.apply(&annotated_service(&[&kept, &flat("/second/", "other")]))?;
    space.answers(HOST, "/second/", 200, "two").await?;
    space.answers(HOST, "/first/", 404, "").await?;
    // broken: this document only
    space.apply(&annotated_service(&[&kept, "kind: Mapping\nname: 'edited"]))?;
    space.answers(HOST, "/second/", 404, "").await?;
    let expected = ["Warning", "NotYaml", "document 2: invalid YAML at line"];
    described(space, "service/annotated", &expected).await?;
    let unknown = "apiVersion: ambassador/v0\nkind: Mapping\nname: edited";
    space.apply(&annotated_service(&[&kept, unknown]))?;
    let expected = [r#"unsupported version "v0" of Mapping"#];
    described(space, "service/annotated", &expected).await?;
    // what is wrong with the object itself
    let nowhere = flat("/third/", "nowhere");
    space.apply(&annotated_service(&[&kept, &nowhere]))?;
    space.answers(HOST, "/third/", 503, "").await?;
    let object = format!(
        "document 2, Mapping {}/edited, spec.service: ",
        space.namespace
    );
    let expected = ["ServiceNotFound", object.as_str()];
    described(space, "service/annotated", &expected).await?;
    // repaired
    space.apply(&annotated_service(&[&kept, &first]))?;
    space.answers(HOST, "/first/", 200, "one").await?;
    space.answers(HOST, "/third/", 404, "").await?;

    // the same object in the API comes first, and shows its status
    space.apply(&mapping("edited", HOST, "/api/", "other", ""))?;
    space.answers(HOST, "/api/", 200, "two").await?;
    space.answers(HOST, "/first/", 404, "").await?;
    let by = format!(
        "also defined by the annotation of Service {}/annotated",
        space.namespace
    );
    condition(space, "mapping/edited", "Accepted", "True", &by).await?;
    space.delete("mapping/edited")?;
    space.answers(HOST, "/first/", 200, "one").await?;
    load.finish().await?;

    // removed, first the annotation and then its owner
    space.plane.kubectl(
        &[
            "-n",
            &space.namespace,
            "annotate",
            "service/annotated",
            "getambassador.io/config-",
        ],
        "",
    )?;
    space.answers(HOST, "/kept/", 404, "").await?;
    space.apply(&annotated_service(&[&kept]))?;
    space.answers(HOST, "/kept/", 200, "one").await?;
    space.delete("service/annotated")?;
    space.answers(HOST, "/kept/", 404, "").await
}

pub(crate) async fn an_ingress_is_served_beside_mappings_of_its_host(
    space: &mut Space,
) -> Result<()> {
    let _one = Backend::start("10.96.6.43:80", "one").await?;
    let _two = Backend::start("10.96.6.44:80", "two").await?;
    space.apply(&service("beside-one", "10.96.6.43"))?;
    space.apply(&service("beside-two", "10.96.6.44"))?;
    let host = "beside.example";
    let annotated_mapping = flat(
        space,
        "getambassador.io/v2",
        "annotated",
        "/annotated/",
        "beside-two",
    )
    .replace(HOST, host);
    // the class is of another controller, which does not matter for the annotation
    let rule = format!(
        "{{host: {host}, http: {{paths: [{{path: /, pathType: Prefix, backend: {{service: {{name: beside-one, port: {{number: 80}}}}}}}}]}}}}"
    );
    let spec = format!("{{ingressClassName: other, rules: [{rule}]}}");
    space.apply(&annotated(
        "Ingress",
        "beside",
        &[&annotated_mapping],
        &spec,
    ))?;
    space.apply(&mapping("beside", host, "/api/", "beside-two", ""))?;
    space.answers(host, "/annotated/", 200, "two").await?;
    space.answers(host, "/", 404, "").await?;
    let id = &space.gateway.instance.id;
    let ours = annotated("Ingress", "beside", &[&annotated_mapping], &format!("{{rules: [{rule}]}}"))
        .replace(
            "  annotations:\n",
            &format!("  annotations:\n    kubernetes.io/ingress.class: ambassador\n    getambassador.io/ambassador-id: {id}\n"),
        );
    space.delete("ingress/beside")?;
    space.apply(&ours)?;
    space.answers(host, "/", 200, "one").await?;
    space.answers(host, "/annotated/", 200, "two").await?;
    space.answers(host, "/api/", 200, "two").await?;
    space.delete("ingress/beside")?;
    space.answers(host, "/", 404, "").await?;
    space.answers(host, "/annotated/", 404, "").await?;
    space.answers(host, "/api/", 200, "two").await
}

pub(crate) async fn what_envoy_rejects_is_shown_on_the_owner(space: &mut Space) -> Result<()> {
    // a port that is in use: only Envoy can find out
    let _taken = tokio::net::TcpListener::bind(space.gateway.instance.port(8099)).await?;
    let id = &space.gateway.instance.id;
    let listener = format!(
        "apiVersion: getambassador.io/v3alpha1\nkind: Listener\nname: taken\nambassador_id: [{id}]\nport: 8099\nprotocol: HTTP\nsecurityModel: XFP\nhostBinding: {{namespace: {{from: ALL}}}}"
    );
    let spec = "{clusterIP: 10.96.6.48, ports: [{port: 80}]}";
    space.apply(&annotated("Service", "taken", &[&listener], spec))?;
    let expected = [
        "Warning",
        "Rejected",
        "Envoy rejected configuration",
        "8099",
    ];
    described(space, "service/taken", &expected).await
}
