//! Ingresses of Knative: requests, status, and a definition that comes and goes.

use anyhow::{Context as _, Result, ensure};
use nuncio_e2e::{client::Load, gateway::Replica};
use nuncio_kat::server::{Http, Listen, Server};
use serde_json::{Value, json};

use crate::{
    Space,
    answer::{ask, backend, reached},
    fixture::{host, service},
    status::condition,
};

/// A definition with the parts that matter here. The real one is Knative's.
const DEFINITION: &str = "
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: ingresses.networking.internal.knative.dev}
spec:
  group: networking.internal.knative.dev
  names: {kind: Ingress, plural: ingresses, singular: ingress}
  scope: Namespaced
  versions:
    - name: v1alpha1
      served: true
      storage: true
      subresources: {status: {}}
      schema:
        openAPIV3Schema:
          type: object
          properties:
            spec: {x-kubernetes-preserve-unknown-fields: true}
            status:
              type: object
              properties:
                observedGeneration: {type: integer, format: int64}
                publicLoadBalancer: {type: object, x-kubernetes-preserve-unknown-fields: true}
                privateLoadBalancer: {type: object, x-kubernetes-preserve-unknown-fields: true}
                conditions:
                  type: array
                  items:
                    type: object
                    required: [type, status]
                    properties:
                      lastTransitionTime: {type: string}
                      message: {type: string}
                      reason: {type: string}
                      status: {type: string}
                      type: {type: string}
";

const RESOURCE: &str = "ingresses.networking.internal.knative.dev";
const HOST: &str = "hello.knative.example";
const WWW: &str = "www.knative.example";

fn ingress(space: &Space, name: &str, annotations: &str, rules: &str) -> String {
    let id = &space.gateway.instance.id;
    format!(
        "apiVersion: networking.internal.knative.dev/v1alpha1\nkind: Ingress\nmetadata:\n  name: {name}\n  annotations: {{getambassador.io/ambassador-id: {id}{annotations}}}\nspec: {{rules: {rules}}}\n---\n"
    )
}

fn split(service: &str, percent: &str) -> String {
    format!(
        "{{serviceName: {service}, servicePort: http, percent: {percent}, appendHeaders: {{Revision: {service}}}}}"
    )
}

/// The Ingress `hello` for both hosts.
fn hello(space: &Space, new: &str) -> String {
    let splits = [split("knative-old", "80"), split("knative-new", new)].join(", ");
    let rules = format!(
        "[{{hosts: [{HOST}, {WWW}], http: {{paths: [{{appendHeaders: {{Common: 50%}}, splits: [{splits}]}}]}}}}]"
    );
    ingress(space, "hello", "", &rules)
}

fn query(space: &Space, host: &str) -> Value {
    // what a client says about revisions must not count
    let headers = json!({"Host": host, "Revision": "forged"});
    json!({"url": format!("http://{}/", space.http()), "headers": headers})
}

fn object(name: &str) -> String {
    format!("{RESOURCE}/{name}")
}

/// Waits until the definition is served.
fn define(space: &Space) -> Result<()> {
    space.plane.kubectl(&["apply", "-f", "-"], DEFINITION)?;
    let crd = format!("crd/{RESOURCE}");
    let arguments = ["wait", "--for=condition=Established", &crd];
    space.plane.kubectl(&arguments, "").map(drop)
}

/// Each request reaches one of both, with the headers of that split, and as many as there should be.
async fn is_shared(space: &Space) -> Result<()> {
    for host in [HOST, WWW] {
        let mut new = 0;
        for _ in 0..300 {
            let answer = ask(query(space, host)).await?;
            let service = backend(&answer);
            ensure!(
                reached(&answer, "revision") == &json!([service]),
                "{answer}"
            );
            ensure!(reached(&answer, "common") == &json!(["50%"]), "{answer}");
            new += u32::from(service == "knative-new");
        }
        // 20 % of 300 with six standard deviations to either side
        ensure!((19..=101).contains(&new), "{new} of 300 requests of {host}");
    }
    Ok(())
}

async fn ready(space: &Space, name: &str, status: &str, text: &str) -> Result<()> {
    condition(space, &object(name), "Ready", status, text).await
}

/// Applies Ingresses of others, and hostile ones, which say what is wrong with them.
async fn others_cost_it_nothing(space: &Space) -> Result<()> {
    let other = ", networking.knative.dev/ingress-class: kourier.ingress.networking.knative.dev";
    let rule = |host: &str, splits: &str| {
        format!("[{{hosts: [{host}], http: {{paths: [{{splits: [{splits}]}}]}}}}]")
    };
    let old = split("knative-old", "100");
    let others = rule("other.knative.example", &old);
    space.apply(&ingress(space, "other", other, &others))?;
    let many = vec!["{serviceName: knative-old, percent: 1}"; 3000].join(", ");
    for (name, rules, text) in [
        ("types", "5".to_owned(), "must be a list"),
        ("many", rule("many.knative.example", &many), "2000"),
        ("name", rule("'*'", &old), "must be a DNS name"),
        (
            "percent",
            rule("percent.knative.example", &split("knative-old", "-1")),
            "must be an integer",
        ),
    ] {
        space.apply(&ingress(space, name, "", &rules))?;
        ready(space, name, "False", text).await?;
    }
    space.answers("many.knative.example", "/", 404, "").await?;
    // as in Emissary, without --knative-local-hosts
    let local = format!(
        "[{{hosts: [local.knative.example], visibility: ClusterLocal, http: {{paths: [{{splits: [{old}]}}]}}}}]"
    );
    space.apply(&ingress(space, "local", "", &local))?;
    ready(space, "local", "True", "").await?;
    space.answers("local.knative.example", "/", 200, "").await?;
    space
        .answers("percent.knative.example", "/", 503, "")
        .await?;
    space.answers("other.knative.example", "/", 404, "").await?;
    let status = space.field(&object("other"), "{.status}")?;
    ensure!(status.is_empty(), "one of others has {status}");
    Ok(())
}

pub(crate) async fn knative_ingresses_are_served_as_their_status_says(
    space: &mut Space,
) -> Result<()> {
    let servers = ["10.96.6.31:80", "10.96.6.32:80"].map(Listen::on);
    let _old = Server::start(&servers[0], Http::new("knative-old").router()).await?;
    let _new = Server::start(&servers[1], Http::new("knative-new").router()).await?;
    let plane = space.plane.clone();
    let instance = space.gateway.instance.clone();
    let gateway = format!("{}/gateway", space.namespace);
    let flags = ["--knative", "--ingress-service", &gateway];
    // ready without the kind
    space.own_gateway()?.replica =
        Replica::start_with(&plane, &instance, 0, &instance.xds(0), &flags).await?;
    let gateway = "apiVersion: v1\nkind: Service\nmetadata: {name: gateway}\nspec: {ports: [{port: 80}]}\n---\n";
    let manifests = [
        service("knative-old", "10.96.6.31"),
        service("knative-new", "10.96.6.32"),
        host("knative", "'*.knative.example'", ""),
        gateway.to_owned(),
    ];
    space.apply(&manifests.concat())?;
    define(space)?;
    space.apply(&hello(space, "20"))?;
    space.answers(HOST, "/", 200, "").await?;
    is_shared(space).await?;

    ready(space, "hello", "True", "").await?;
    let field = |path: &str| space.field(&object("hello"), path);
    let domain = format!("gateway.{}.svc.cluster.local", space.namespace);
    for balancer in ["publicLoadBalancer", "privateLoadBalancer"] {
        let found = field(&format!("{{.status.{balancer}.ingress[0].domainInternal}}"))?;
        ensure!(found == domain, "{balancer} is {found:?}");
    }
    ensure!(field("{.status.observedGeneration}")? == field("{.metadata.generation}")?);
    let version = field("{.metadata.resourceVersion}")?;

    // others do not count, whatever they have; what is hostile is reported and costs nobody anything
    let load = Load::start(&space.http(), WWW, "/");
    others_cost_it_nothing(space).await?;
    ensure!(
        field("{.metadata.resourceVersion}")? == version,
        "the status of hello was written without a reason"
    );

    // edited, broken and fixed under traffic
    space.apply(&hello(space, "broken"))?;
    ready(space, "hello", "False", "must be an integer").await?;
    space.apply(&hello(space, "20"))?;
    ready(space, "hello", "True", "").await?;
    load.finish().await.context("an Ingress that is edited")?;
    is_shared(space).await?;

    // gone with its definition, and back with it
    let crd = format!("crd/{RESOURCE}");
    space.plane.kubectl(&["delete", &crd], "")?;
    space.answers(HOST, "/", 404, "").await?;
    define(space)?;
    space.apply(&hello(space, "20"))?;
    space.answers(HOST, "/", 200, "").await?;
    ready(space, "hello", "True", "").await?;
    space.delete(&object("hello"))?;
    space.answers(HOST, "/", 404, "").await?;
    space.plane.kubectl(&["delete", &crd], "").map(drop)
}
