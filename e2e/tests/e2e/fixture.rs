//! Manifests.

/// Where the shared Envoy listens without TLS.
pub(crate) const HTTP: &str = "127.0.0.1:8080";
/// Where it listens with TLS.
pub(crate) const HTTPS: &str = "127.0.0.1:8443";

/// The listeners that all tests share.
pub(crate) const LISTENERS: &str = "
apiVersion: getambassador.io/v3alpha1
kind: Listener
metadata: {name: http}
spec: {port: 8080, protocol: HTTP, securityModel: XFP, hostBinding: {namespace: {from: ALL}}}
---
apiVersion: getambassador.io/v3alpha1
kind: Listener
metadata: {name: https}
spec: {port: 8443, protocol: HTTPS, securityModel: XFP, hostBinding: {namespace: {from: ALL}}}
";

/// An object of our kinds.
pub(crate) fn object(kind: &str, name: &str, spec: &str) -> String {
    format!(
        "apiVersion: getambassador.io/v3alpha1\nkind: {kind}\nmetadata: {{name: {name}}}\nspec: {{{spec}}}\n---\n"
    )
}

/// An object of our kinds with labels.
pub(crate) fn labelled(kind: &str, name: &str, labels: &str, spec: &str) -> String {
    object(kind, &format!("{name}, labels: {{{labels}}}"), spec)
}

/// A Host with the certificate of the Secret that has its name; `more` goes into its spec.
pub(crate) fn tls_host(name: &str, hostname: &str, more: &str) -> String {
    let spec = format!("hostname: '{hostname}', tlsSecret: {{name: {name}}}{more}");
    object("Host", name, &spec)
}

/// A Host that serves without TLS too; `more` goes into its spec.
pub(crate) fn host(name: &str, hostname: &str, more: &str) -> String {
    format!(
        "apiVersion: getambassador.io/v3alpha1\nkind: Host\nmetadata: {{name: {name}}}\nspec: {{hostname: {hostname}, requestPolicy: {{insecure: {{action: Route}}}}{more}}}\n---\n"
    )
}

/// A Mapping; `more` goes into its spec.
pub(crate) fn mapping(
    name: &str,
    hostname: &str,
    prefix: &str,
    service: &str,
    more: &str,
) -> String {
    format!(
        "apiVersion: getambassador.io/v3alpha1\nkind: Mapping\nmetadata: {{name: {name}}}\nspec: {{hostname: {hostname}, prefix: {prefix}, service: '{service}'{more}}}\n---\n"
    )
}

/// A Service with this cluster IP and port 80.
pub(crate) fn service(name: &str, address: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Service\nmetadata: {{name: {name}}}\nspec: {{clusterIP: {address}, ports: [{{name: http, port: 80, targetPort: 8000}}]}}\n---\n"
    )
}

/// The one EndpointSlice of a Service, with port 8000.
pub(crate) fn endpoints(service: &str, addresses: &[&str]) -> String {
    let endpoints: Vec<String> = addresses
        .iter()
        .map(|address| format!("{{addresses: [{address}]}}"))
        .collect();
    format!(
        "apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata: {{name: {service}-1, labels: {{kubernetes.io/service-name: {service}}}}}\naddressType: IPv4\nports: [{{name: http, port: 8000}}]\nendpoints: [{}]\n---\n",
        endpoints.join(", ")
    )
}
