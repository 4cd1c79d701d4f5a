//! HTTP/3 beside HTTPS on the same port. The client is another Envoy, which turns requests over HTTP/1.1 into HTTP/3.

use anyhow::{Result, ensure};
use nuncio_e2e::{certificate::Authority, gateway::Envoy, instance::Instance};
use nuncio_kat::server::{Http, Listen, Server};
use serde_json::json;

use crate::{
    Space,
    answer::{answered, reached, returned},
    fixture::mapping,
};

/// Where the client accepts requests over HTTP/1.1.
const CLIENT: &str = "127.0.0.9:9080";
const ADMIN: &str = "127.0.0.9:9901";

pub(crate) async fn http3_is_served_beside_https(space: &Space) -> Result<()> {
    let _server = Server::start(&Listen::on("10.96.31.1:80"), Http::new("http3").router()).await?;
    let authority = Authority::new()?;
    let manifests = [
        authority.issue(&["http3.example"])?.secret(&space.namespace, "http3"),
        "apiVersion: getambassador.io/v3alpha1\nkind: Host\nmetadata: {name: http3}\nspec: {hostname: http3.example, tlsSecret: {name: http3}}\n---\n".to_owned(),
        "apiVersion: getambassador.io/v3alpha1\nkind: Listener\nmetadata: {name: http3}\nspec: {port: 8443, protocolStack: [TLS, HTTP, UDP], securityModel: XFP, hostBinding: {namespace: {from: ALL}}}\n---\n".to_owned(),
        mapping("http3", "http3.example", "/", "10.96.31.1", ""),
    ];
    space.apply(&manifests.concat())?;
    let https = json!({"url": format!("https://{}/", space.https()), "headers": {"Host": "http3.example"}, "sni": true, "ca_cert": authority.pem()});
    let answer = answered(&https, 200).await?;
    let value = returned(&answer, "Alt-Svc")[0].as_str().unwrap_or_default();
    ensure!(
        value.starts_with("h3=\":443\""),
        "Alt-Svc does not offer HTTP/3: {answer}"
    );

    let client = Envoy::start_with(
        "http3-client",
        ADMIN,
        &bootstrap(&space.gateway.instance, &authority.pem()),
    )?;
    let query = json!({"url": format!("http://{CLIENT}/"), "headers": {"Host": "http3.example"}});
    let answer = answered(&query, 200).await?;
    ensure!(
        *reached(&answer, "x-forwarded-proto") == json!(["https"]),
        "{answer}"
    );
    let connections = client
        .statistic("cluster.gateway.upstream_cx_http3_total")
        .await?;
    ensure!(connections > 0, "no connection is HTTP/3");
    Ok(())
}

/// An Envoy that sends requests to the gateway over HTTP/3.
fn bootstrap(gateway: &Instance, authority: &str) -> String {
    let (address, authority) = (gateway.address, json!(authority));
    format!(
        r#"
admin: {{address: {{socket_address: {{address: 127.0.0.9, port_value: 9901}}}}}}
static_resources:
  listeners:
  - address: {{socket_address: {{address: 127.0.0.9, port_value: 9080}}}}
    filter_chains:
    - filters:
      - name: envoy.filters.network.http_connection_manager
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
          stat_prefix: client
          http_filters:
          - name: envoy.filters.http.router
            typed_config: {{"@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router}}
          route_config:
            virtual_hosts:
            - {{name: all, domains: ["*"], routes: [{{match: {{prefix: /}}, route: {{cluster: gateway}}}}]}}
  clusters:
  - name: gateway
    type: STATIC
    load_assignment: {{cluster_name: gateway, endpoints: [{{lb_endpoints: [{{endpoint: {{address: {{socket_address: {{address: {address}, port_value: 8443, protocol: UDP}}}}}}}}]}}]}}
    typed_extension_protocol_options:
      envoy.extensions.upstreams.http.v3.HttpProtocolOptions:
        "@type": type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions
        explicit_http_config: {{http3_protocol_options: {{}}}}
    transport_socket:
      name: envoy.transport_sockets.quic
      typed_config:
        "@type": type.googleapis.com/envoy.extensions.transport_sockets.quic.v3.QuicUpstreamTransport
        upstream_tls_context:
          sni: http3.example
          common_tls_context: {{validation_context: {{trusted_ca: {{inline_string: {authority}}}}}}}
"#
    )
}
