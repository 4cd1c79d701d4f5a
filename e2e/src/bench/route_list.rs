//! The same routes without Nuncio, for comparison: an Envoy that reads them from a file, as a plain list.

use serde_json::{Value, json};

/// Where its admin interface is.
pub(super) const ADMIN: &str = "127.0.0.1:8002";
/// Where it serves clear text.
pub(super) const HTTP: &str = "127.0.0.1:8081";

/// Its bootstrap, with redirects from prefixes to paths.
pub(super) fn bootstrap(host: &str, redirects: &[(String, String)]) -> String {
    let routes: Vec<Value> = redirects
        .iter()
        .map(|(prefix, path)| {
            json!({"match": {"prefix": prefix}, "redirect": {"host_redirect": "elsewhere.example", "path_redirect": path}})
        })
        .collect();
    let manager = json!({
        "@type": "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "list",
        "http_filters": [{
            "name": "envoy.filters.http.router",
            "typed_config": {"@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router"}
        }],
        "route_config": {"virtual_hosts": [{"name": host, "domains": [host], "routes": routes}]}
    });
    let listener = json!({
        "name": "list",
        "address": socket(HTTP),
        "filter_chains": [{"filters": [{"name": "envoy.filters.network.http_connection_manager", "typed_config": manager}]}]
    });
    json!({"admin": {"address": socket(ADMIN)}, "static_resources": {"listeners": [listener]}})
        .to_string()
}

fn socket(address: &str) -> Value {
    let (host, port) = address.split_once(':').unwrap_or_default();
    json!({"socket_address": {"address": host, "port_value": port.parse::<u16>().unwrap_or_default()}})
}
