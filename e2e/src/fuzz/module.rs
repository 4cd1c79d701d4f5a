//! What a Module's `config` may hold. Its schema allows anything, so that keys have to be known here to be written.

use serde_json::{Value, json};

/// A schema of `spec` with the keys that have an effect.
#[expect(clippy::too_many_lines, reason = "a list of keys")]
pub(super) fn schema() -> Value {
    let boolean = json!({"type": "boolean"});
    let integer = json!({"type": "integer"});
    let text = json!({"type": "string"});
    let texts = json!({"type": "array", "items": text});
    let object = |properties: Value| json!({"type": "object", "properties": properties});
    let list = |items: Value| json!({"type": "array", "items": items});
    let choice = |choices: &[&str]| json!({"type": "string", "enum": choices});
    let probe = object(
        json!({"enabled": boolean, "service": text, "prefix": text, "rewrite": text, "allow_non_local": boolean}),
    );
    let address = object(json!({"peer": text, "remote": text}));
    let breaker = object(json!({
        "priority": choice(&["default", "high"]), "max_connections": integer, "max_pending_requests": integer,
        "max_requests": integer, "max_retries": integer,
    }));
    let label = object(json!({
        "source_cluster": object(json!({"key": choice(&["source_cluster"])})),
        "remote_address": object(json!({"key": choice(&["remote_address"])})),
        "generic_key": object(json!({"key": text, "value": text})),
        "request_headers": object(json!({"key": text, "header_name": text, "omit_if_not_present": boolean})),
    }));
    let header = json!({"type": "object", "additionalProperties": text});
    let cors = object(json!({
        "origins": texts, "methods": texts, "headers": texts, "credentials": boolean, "exposed_headers": texts, "max_age": text,
    }));
    let retry = object(json!({
        "retry_on": choice(&["5xx", "gateway-error", "connect-failure", "retriable-4xx", "sometimes"]),
        "num_retries": integer, "per_try_timeout": text,
    }));
    let balancer = object(json!({
        "policy": choice(&["round_robin", "least_request", "ring_hash", "maglev"]),
        "header": text, "source_ip": boolean, "cookie": object(json!({"name": text, "path": text, "ttl": text})),
    }));
    let gzip = object(json!({
        "memory_level": integer, "compression_level": choice(&["BEST_SPEED", "BEST_COMPRESSION", "COMPRESSION_LEVEL_3", "FAST"]),
        "compression_strategy": choice(&["FILTERED", "RLE", "DEFAULT_STRATEGY", "OTHER"]), "window_bits": integer,
        "min_content_length": integer, "content_type": texts, "disable_on_etag_header": boolean,
        "remove_accept_encoding_header": boolean,
    }));
    let error = object(json!({
        "on_status_code": integer,
        "body": object(json!({"text_format": text, "json_format": header, "content_type": text})),
    }));
    let defaults = object(json!({
        "add_request_headers": header, "add_response_headers": header, "remove_request_headers": texts,
        "httpmapping": object(json!({"add_request_headers": header, "remove_response_headers": texts, "stats_name": text})),
    }));
    let booleans = [
        "use_remote_address",
        "enable_http10",
        "allow_chunked_length",
        "proper_case",
        "preserve_external_request_id",
        "strip_matching_host_port",
        "merge_slashes",
        "reject_requests_with_escaped_slashes",
        "suppress_envoy_headers",
        "enable_ipv4",
        "enable_ipv6",
        "add_linkerd_headers",
        "use_ambassador_namespace_for_service_resolution",
        "enable_grpc_http11_bridge",
        "enable_grpc_web",
    ];
    let integers = [
        "listener_idle_timeout_ms",
        "max_request_headers_kb",
        "buffer_limit_bytes",
        "cluster_request_timeout_ms",
        "cluster_idle_timeout_ms",
        "cluster_max_connection_lifetime_ms",
        "regex_max_size",
        "admin_port",
        "envoy_validation_timeout",
    ];
    let mut keys = json!({
        "server_name": text,
        "lua_scripts": text,
        "resolver": text,
        "headers_with_underscores_action": choice(&["ALLOW", "REJECT_REQUEST", "DROP_HEADER", "KEEP"]),
        "header_case_overrides": texts,
        "forward_client_cert_details": choice(&["SANITIZE", "SANITIZE_SET", "FORWARD_ONLY", "ALWAYS_FORWARD_ONLY", "NONE"]),
        "set_current_client_cert_details":
            object(json!({"subject": boolean, "cert": boolean, "chain": boolean, "dns": boolean, "uri": boolean})),
        "load_balancer": balancer,
        "circuit_breakers": list(breaker),
        "keepalive": object(json!({"time": integer, "interval": integer, "probes": integer, "idle_time": integer})),
        "cors": cors,
        "retry_policy": retry,
        "default_label_domain": text,
        "default_labels": {"type": "object", "additionalProperties": object(json!({"defaults": list(label)}))},
        "defaults": defaults,
        "grpc_stats": object(json!({
            "upstream_stats": boolean, "all_methods": boolean,
            "services": list(object(json!({"name": text, "method_names": texts}))),
        })),
        "gzip": gzip,
        "buffer": object(json!({"max_request_bytes": integer, "max_request_time": integer})),
        "ip_allow": list(address.clone()),
        "ip_deny": list(address),
        "liveness_probe": probe,
        "readiness_probe": probe,
        "diagnostics": probe,
        "runtime_flags": {"type": "object", "additionalProperties": integer},
        "error_response_overrides": list(error),
        "envoy_log_type": choice(&["text", "json", "typed_json", "xml"]),
        "envoy_log_path": text,
        "envoy_log_format": {},
    });
    if let Some(keys) = keys.as_object_mut() {
        keys.extend(booleans.map(|key| (key.to_owned(), boolean.clone())));
        keys.extend(integers.map(|key| (key.to_owned(), integer.clone())));
    }
    json!({"type": "object", "required": ["config"], "properties": {"config": {"type": "object", "properties": keys}}})
}
