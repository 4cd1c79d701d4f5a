//! Ingresses: requests, and the addresses in their status.

use anyhow::{Result, ensure};
use nuncio_e2e::{backend::Backend, control_plane::NAMESPACE, wait::until};

use crate::{
    Space,
    fixture::{mapping, service},
    status::condition,
};

/// An Ingress of the instance; `class` is its annotation or the field.
fn ingress(space: &Space, name: &str, annotations: &str, spec: &str) -> String {
    let id = &space.gateway.instance.id;
    format!(
        "apiVersion: networking.k8s.io/v1\nkind: Ingress\nmetadata:\n  name: {name}\n  annotations: {{getambassador.io/ambassador-id: {id}{annotations}}}\nspec: {{{spec}}}\n---\n"
    )
}

const OWN: &str = ", kubernetes.io/ingress.class: ambassador";

const ONE: &str = "one.ingress.example";
const TWO: &str = "two.ingress.example";

fn rule(host: &str, path: &str, kind: &str, service: &str, port: &str) -> String {
    let backend = format!("{{service: {{name: {service}, port: {{{port}}}}}}}");
    let path = format!("{{path: {path}, pathType: {kind}, backend: {backend}}}");
    format!("{{host: {host}, http: {{paths: [{path}]}}}}")
}

/// The rule for `ONE`.
fn first() -> String {
    rule(ONE, "/a", "Prefix", "ingress-one", "number: 80")
}

/// The rules for both hosts.
fn rules(port: &str) -> String {
    let second = rule(TWO, "/b", "Exact", "ingress-two", port);
    format!("rules: [{}, {second}]", first())
}

async fn shown(space: &Space, object: &str, expected: &str) -> Result<()> {
    until(expected, || async {
        let found = space.field(object, "{.status.loadBalancer.ingress[*].ip}")?;
        ensure!(found == expected, "it is {found:?}");
        Ok(())
    })
    .await
}

pub(crate) async fn requests_of_an_ingress_are_served(space: &mut Space) -> Result<()> {
    let _one = Backend::start("10.96.6.21:80", "one").await?;
    let _two = Backend::start("10.96.6.22:80", "two").await?;
    space.apply(&service("ingress-one", "10.96.6.21"))?;
    space.apply(&service("ingress-two", "10.96.6.22"))?;
    let web = |annotations: &str, port: &str| ingress(space, "web", annotations, &rules(port));
    space.apply(&web(OWN, "name: http"))?;
    // as in Emissary, what is matched becomes `/`
    space.answers(ONE, "/a/x", 200, "one").await?;
    space.answers(ONE, "/ax", 200, "one").await?;
    space.answers(TWO, "/b", 200, "two").await?;
    space.answers(TWO, "/b/x", 404, "").await?;

    // as Kubernetes has it
    let kubernetes = format!("{OWN}, getambassador.io/ingress-paths: kubernetes");
    space.apply(&web(&kubernetes, "name: http"))?;
    space.answers(ONE, "/ax", 404, "").await?;
    space.answers(ONE, "/a/x", 200, "one").await?;
    space.answers(ONE, "/a", 200, "one").await?;

    // a Mapping of that name comes first, and goes
    space.apply(&mapping("web-1-0", TWO, "/b", "10.96.6.21", ""))?;
    space.answers(TWO, "/b", 200, "one").await?;
    condition(space, "mapping/web-1-0", "Programmed", "True", "").await?;
    space.delete("mapping/web-1-0")?;
    space.answers(TWO, "/b", 200, "two").await?;

    // a port that the Service does not have
    space.apply(&web(OWN, "name: other"))?;
    space.answers(TWO, "/b", 503, "").await?;
    space.answers(ONE, "/a/x", 200, "one").await?;
    space.delete("ingress/web")?;
    space.answers(ONE, "/a/x", 404, "").await
}

pub(crate) async fn ingresses_come_and_go_with_their_class(space: &mut Space) -> Result<()> {
    let _one = Backend::start("10.96.6.23:80", "one").await?;
    space.apply(&service("ingress-one", "10.96.6.23"))?;
    let name = &space.namespace;
    let spec = format!("ingressClassName: {name}, rules: [{}]", first());
    space.apply(&ingress(space, "web", "", &spec))?;
    let id = &space.gateway.instance.id;
    let class = format!(
        "apiVersion: networking.k8s.io/v1\nkind: IngressClass\nmetadata: {{name: {name}, annotations: {{getambassador.io/ambassador-id: {id}}}}}\nspec: {{controller: getambassador.io/ingress-controller}}\n"
    );
    space.plane.kubectl(&["apply", "-f", "-"], &class)?;
    space.answers(ONE, "/a/x", 200, "one").await?;
    space.plane.kubectl(&["delete", "ingressclass", name], "")?;
    space.answers(ONE, "/a/x", 404, "").await
}

pub(crate) async fn the_status_of_an_ingress_has_the_addresses_of_the_gateway(
    space: &mut Space,
) -> Result<()> {
    let name = "ingress-status-gateway";
    let gateway = format!(
        "apiVersion: v1\nkind: Service\nmetadata: {{name: {name}, labels: {{app.kubernetes.io/component: ambassador-service}}}}\nspec: {{type: LoadBalancer, ports: [{{port: 80}}]}}\n"
    );
    let addresses = |address: &str| {
        let status =
            format!(r#"{{"status": {{"loadBalancer": {{"ingress": [{{"ip": "{address}"}}]}}}}}}"#);
        let arguments = [
            "-n",
            NAMESPACE,
            "patch",
            "service",
            name,
            "--subresource=status",
            "--type=merge",
            "-p",
            &status,
        ];
        space.plane.kubectl(&arguments, "").map(drop)
    };
    let rule = rule(
        "status.ingress.example",
        "/",
        "Prefix",
        "nothing",
        "number: 80",
    );
    space.apply(&ingress(space, "ours", OWN, &format!("rules: [{rule}]")))?;
    space.apply(&ingress(space, "other", "", &format!("rules: [{rule}]")))?;
    space.plane.apply(NAMESPACE, &gateway)?;
    addresses("192.0.2.7")?;
    shown(space, "ingress/ours", "192.0.2.7").await?;
    addresses("192.0.2.8")?;
    shown(space, "ingress/ours", "192.0.2.8").await?;
    // somebody else overwrites it
    let other = r#"{"status": {"loadBalancer": {"ingress": [{"ip": "192.0.2.99"}]}}}"#;
    let arguments = [
        "-n",
        &space.namespace,
        "patch",
        "ingress",
        "ours",
        "--subresource=status",
        "--type=merge",
        "-p",
        other,
    ];
    space.plane.kubectl(&arguments, "")?;
    shown(space, "ingress/ours", "192.0.2.8").await?;
    shown(space, "ingress/other", "").await?;
    space.plane.delete(NAMESPACE, &format!("service/{name}"))
}
