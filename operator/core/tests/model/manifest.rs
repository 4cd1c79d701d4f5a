//! The input as Kubernetes objects.

use nuncio_core::object::Kind;
use serde_json::{Value, json};

use super::input::{
    Host, Input, Insecure, Listener, Mapping, Meta, Mistake, Operator, SecurityModel, Selector,
    TcpMapping,
};

/// All objects, in the order in which they are written down.
pub(crate) fn objects(input: &Input) -> Vec<(Kind, Value)> {
    let listeners = input.listeners.iter().map(listener);
    let hosts = input.hosts.iter().map(host);
    let mappings = input.mappings.iter().map(mapping);
    let tcp_mappings = input.tcp_mappings.iter().map(tcp_mapping);
    listeners
        .map(|value| (Kind::Listener, value))
        .chain(hosts.map(|value| (Kind::Host, value)))
        .chain(mappings.map(|value| (Kind::Mapping, value)))
        .chain(tcp_mappings.map(|value| (Kind::TcpMapping, value)))
        .collect()
}

/// The manifests, for people.
pub(crate) fn yaml(input: &Input) -> String {
    let documents = objects(input).into_iter().map(|(kind, mut value)| {
        value["apiVersion"] = json!("getambassador.io/v3alpha1");
        value["kind"] = json!(kind.to_string());
        serde_saphyr::to_string(&value).expect("JSON is YAML")
    });
    let loose = if input.loose {
        "# DISABLE_STRICT_LABEL_SELECTORS=true\n"
    } else {
        ""
    };
    format!("{loose}{}", documents.collect::<Vec<_>>().join("---\n"))
}

/// Address of the service of this Mapping.
pub(crate) fn address(number: usize) -> String {
    format!("10.1.0.{number}")
}

/// Host that this Mapping redirects to.
pub(crate) fn redirect_host(number: usize) -> String {
    format!("redirect-{number}.example")
}

/// An object without the fields that are null.
fn object(meta: &Meta, mut spec: Value) -> Value {
    if let Some(fields) = spec.as_object_mut() {
        fields.retain(|_, value| !value.is_null());
    }
    let mut metadata = json!({"name": meta.name, "namespace": meta.namespace});
    if !meta.labels.is_empty() {
        metadata["labels"] = json!(meta.labels);
    }
    json!({"metadata": metadata, "spec": spec})
}

fn listener(listener: &Listener) -> Value {
    let from = if listener.all_namespaces {
        "ALL"
    } else {
        "SELF"
    };
    let mut binding = json!({"namespace": {"from": from}});
    if let Some((key, value)) = listener.selector {
        binding["selector"] = json!({"matchLabels": {key: value}});
    }
    let model = match listener.model {
        SecurityModel::Xfp => "XFP",
        SecurityModel::Secure => "SECURE",
        SecurityModel::Insecure => "INSECURE",
    };
    let spec =
        json!({"port": 8080, "protocol": "HTTP", "securityModel": model, "hostBinding": binding});
    let mut object = object(&listener.meta, spec);
    object["metadata"]["creationTimestamp"] =
        json!(format!("2026-01-01T{:02}:00:00Z", listener.created));
    object
}

fn host(host: &Host) -> Value {
    let action = match host.insecure {
        Insecure::Route => "Route",
        Insecure::Redirect => "Redirect",
        Insecure::Reject => "Reject",
    };
    let mut spec =
        json!({"hostname": host.hostname, "requestPolicy": {"insecure": {"action": action}}});
    if let Some(found) = &host.selector {
        let field = if host.deprecated {
            "selector"
        } else {
            "mappingSelector"
        };
        spec[field] = selector(found);
    }
    object(&host.meta, spec)
}

fn selector(selector: &Selector) -> Value {
    let mut value = json!({});
    if !selector.labels.is_empty() {
        value["matchLabels"] = json!(selector.labels);
    }
    let expressions = selector.expressions.iter().map(|expression| {
        let operator = match expression.operator {
            Operator::In => "In",
            Operator::NotIn => "NotIn",
            Operator::Exists => "Exists",
            Operator::DoesNotExist => "DoesNotExist",
        };
        let mut value = json!({"key": expression.key, "operator": operator});
        if !expression.values.is_empty() {
            value["values"] = json!(expression.values);
        }
        value
    });
    let expressions: Vec<Value> = expressions.collect();
    if !expressions.is_empty() {
        value["matchExpressions"] = json!(expressions);
    }
    value
}

fn mapping(mapping: &Mapping) -> Value {
    let condition = &mapping.condition;
    let flag = |set: bool| if set { json!(true) } else { Value::Null };
    let mut headers = json!(condition.headers);
    if let Some(authority) = condition.authority {
        headers[":authority"] = json!(authority);
    }
    let service = if mapping.redirect && !mapping.shadow {
        redirect_host(mapping.number)
    } else {
        address(mapping.number)
    };
    let mut spec = json!({
        "hostname": condition.hostname,
        "host": condition.host,
        "host_regex": flag(condition.host_regex),
        "prefix": condition.prefix,
        "prefix_exact": flag(condition.prefix_exact),
        "prefix_regex": flag(condition.prefix_regex),
        "case_sensitive": mapping.case_sensitive,
        "method": condition.method,
        "method_regex": flag(condition.method_regex),
        "headers": headers,
        "regex_headers": condition.regex_headers,
        "query_parameters": condition.query,
        "regex_query_parameters": condition.regex_query,
        "precedence": condition.precedence,
        "weight": mapping.weight,
        "host_redirect": flag(mapping.redirect),
        "shadow": flag(mapping.shadow),
        "service": service,
    });
    for field in [
        "headers",
        "regex_headers",
        "query_parameters",
        "regex_query_parameters",
    ] {
        if spec[field] == json!({}) {
            spec[field] = Value::Null;
        }
    }
    if !mapping.ours {
        spec["ambassador_id"] = json!(["another"]);
    }
    match mapping.mistake {
        None => {}
        Some(Mistake::Resolver) => spec["resolver"] = json!("nowhere"),
        Some(Mistake::Scheme) => spec["service"] = json!(format!("ftp://{service}")),
        Some(Mistake::Type) => spec["timeout_ms"] = json!("soon"),
        Some(Mistake::Rewrite) => {
            spec["regex_rewrite"] = json!({"pattern": "(", "substitution": "/"});
        }
        Some(Mistake::Header) => spec["regex_headers"] = json!({"x-a": "("}),
        Some(Mistake::Hostname) => spec["hostname"] = json!("*.example.*"),
    }
    object(&mapping.meta, spec)
}

fn tcp_mapping(mapping: &TcpMapping) -> Value {
    let spec = json!({
        "port": mapping.port,
        "address": mapping.address,
        "weight": mapping.weight,
        "service": format!("{}:5432", address(mapping.number)),
    });
    object(&mapping.meta, spec)
}
