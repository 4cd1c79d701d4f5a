//! Scopes that an Envoy asks for as long as it runs, whether or not a listener uses them.
//!
//! Envoy has one subscription to scopes for all listeners, and begins it with the first that uses them. That listener waits
//! for them, but five seconds at most: if the connection to the control plane is cut between the two, its requests get 404.
//! Where the subscription is there from the start, the control plane sends the scopes first, and the listener when Envoy has
//! them.

use serde_json::{Value, json};

use crate::render::SCOPE_HEADER;

/// A listener without a socket that uses scopes. It has port 0, which no rendered listener has: Envoy refuses a second
/// listener with the same address, even if nothing is bound. Envoy shares a subscription among listeners that have it in
/// equal words, so `scoped_rds` is the same as in the listeners of the control plane.
pub(super) fn listener() -> Value {
    let source = json!({"ads": {}, "resource_api_version": "V3", "initial_fetch_timeout": "5s"});
    json!({
        "name": "scopes",
        "address": {"socket_address": {"address": "127.0.0.1", "port_value": 0}},
        "bind_to_port": false,
        "filter_chains": [{"filters": [{
            "name": "envoy.filters.network.http_connection_manager",
            "typed_config": {
                "@type": "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
                "stat_prefix": "scopes",
                "scoped_routes": {
                    "name": "route-tables",
                    "scope_key_builder": {"fragments": [{"header_value_extractor": {
                        "name": SCOPE_HEADER, "index": 0
                    }}]},
                    "rds_config_source": source,
                    "scoped_rds": {"scoped_rds_config_source": source}
                },
                "http_filters": [{"name": "envoy.filters.http.router", "typed_config": {
                    "@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router"
                }}]
            }
        }]}]
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_rendered_listener_has_its_address() {
        let address = &listener()["address"]["socket_address"];
        assert_eq!(address["port_value"], 0, "ports of Listeners begin at 1");
    }
}
