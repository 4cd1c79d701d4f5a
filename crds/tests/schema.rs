//! What every definition must be, so that clusters accept it and people can read it, and where it must agree with
//! Emissary's and with the table of kinds.
#![recursion_limit = "256"]
#![expect(
    clippy::unwrap_used,
    reason = "a test, though clippy does not see that of functions beside it"
)]

use std::collections::BTreeMap;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinitionVersion;
use nuncio_crds::{GROUP, KINDS, KindInfo, conversion::ApiVersion, kind::Scope};
use serde_json::{Value, json};

#[test]
fn every_node_has_a_type_unless_any_value_is_kept() {
    for_each_node_of_all(|path, node| {
        let keeps_all = node["x-kubernetes-preserve-unknown-fields"] == true;
        assert!(
            node["type"].is_string() || keeps_all,
            "{path} has no type, so the schema is not structural: {node}"
        );
    });
}

/// Fields that take several types in the old versions.
#[test]
fn any_value_is_kept_where_old_versions_take_several_types() {
    let mut found = BTreeMap::new();
    for_each_node_of_all(|path, node| {
        if node.get("type").is_none() {
            assert_eq!(node["nullable"], true, "{path}");
            let path = path.replacen(".v1", "", 1).replacen(".v2", "", 1);
            *found.entry(path).or_insert(0) += 1;
        }
    });
    // in v1 and v2, but a Host only in v2
    let mut expected = BTreeMap::from([
        ("Host.spec.ambassador_id".to_owned(), 1),
        ("Host.spec.ambassadorId".to_owned(), 1),
    ]);
    for kind in KINDS.iter().filter(|info| info.group == GROUP) {
        if !["Host", "Listener"].contains(&kind.name) {
            expected.insert(format!("{}.spec.ambassador_id", kind.name), 2);
        }
    }
    for kind in ["AuthService", "Mapping", "RateLimitService", "TCPMapping"] {
        expected.insert(format!("{kind}.spec.tls"), 2);
    }
    for field in [
        "add_request_headers{}",
        "add_response_headers{}",
        "cors.exposed_headers",
        "cors.headers",
        "cors.methods",
        "cors.origins",
        "headers{}",
        "labels{}[]{}[]",
        "query_parameters{}",
        "remove_request_headers",
        "remove_response_headers",
    ] {
        expected.insert(format!("Mapping.spec.{field}"), 2);
    }
    assert_eq!(found, expected);
}

/// Null is then the same as absent in every field: the apiserver drops it.
#[test]
fn nothing_is_stored_as_null() {
    for_each_node(|path, node| {
        assert!(node.get("nullable").is_none(), "{path} is nullable");
        let values = node["enum"].as_array();
        assert!(
            values.is_none_or(|values| !values.contains(&Value::Null)),
            "{path} has null among its values"
        );
    });
}

/// Structural schemas allow these only where they repeat what the node says by itself.
#[test]
fn no_node_has_alternatives() {
    for_each_node_of_all(|path, node| {
        for keyword in ["allOf", "anyOf", "oneOf", "not", "$ref"] {
            assert!(node.get(keyword).is_none(), "{path} has {keyword}");
        }
    });
}

#[test]
fn every_field_is_described() {
    for_each_node_of_all(|path, node| {
        for (name, property) in node["properties"].as_object().into_iter().flatten() {
            let description = property["description"].as_str().unwrap_or_default();
            assert!(
                description.ends_with('.') && !description.contains('\n'),
                "{path}.{name} is described as {description:?}"
            );
        }
    });
}

/// A noun or an imperative, as the descriptions of Kubernetes have it, and no question.
#[test]
fn descriptions_name_what_a_field_is() {
    const QUESTIONS: [&str; 6] = ["How", "What", "When", "Where", "Which", "Why"];
    for_each_node_of_all(|path, node| {
        let description = node["description"].as_str().unwrap_or_default();
        let first = description.split_whitespace().next().unwrap_or_default();
        assert!(!QUESTIONS.contains(&first), "{path}: {description}");
    });
}

#[test]
fn unknown_fields_are_kept_only_where_no_type_is_known() {
    assert_eq!(
        found("x-kubernetes-preserve-unknown-fields"),
        expected(json!({
            "Mapping.spec.envoy_override": true,
            "Mapping.spec.modules[]": true,
            "Module.spec.config": true,
        }))
    );
}

#[test]
fn enumerations_are_those_of_emissary() {
    let phases = json!([
        "NA",
        "DefaultsFilled",
        "ACMEUserPrivateKeyCreated",
        "ACMEUserRegistered",
        "ACMECertificateChallenge"
    ]);
    let representation = json!(["", "string", "null"]);
    let statuses = json!(["True", "False", "Unknown"]);
    let versions = json!(["v1.0", "v1.1", "v1.2", "v1.3"]);
    let protocols = json!(["v2", "v3"]);
    let explicit = json!(["", "null", "bool:true", "bool:false", "string"]);
    assert_eq!(
        found("enum"),
        expected(json!({
            "AuthService.spec.circuit_breakers[].priority": ["default", "high"],
            "AuthService.spec.proto": ["http", "grpc"],
            "AuthService.spec.protocol_version": protocols,
            "AuthService.spec.v2ExplicitTLS.tls": explicit,
            "AuthService.status.conditions[].status": statuses,
            "ConsulResolver.status.conditions[].status": statuses,
            "DevPortal.spec.naming_scheme": ["namespace.name", "name.prefix"],
            "DevPortal.spec.search.type": ["title-only", "all-content"],
            "DevPortal.status.conditions[].status": statuses,
            "Host.spec.previewUrl.type": ["Path"],
            "Host.spec.requestPolicy.insecure.action": ["Redirect", "Reject", "Route"],
            "Host.status.conditions[].status": statuses,
            "Host.status.phaseCompleted": phases,
            "Host.status.phasePending": phases,
            "Host.status.state": ["Initial", "Pending", "Ready", "Error"],
            "Host.status.tlsCertificateSource": ["Unknown", "None", "Other", "ACME"],
            "Listener.spec.hostBinding.namespace.from": ["SELF", "ALL", "SELECTOR"],
            "Listener.spec.protocol": ["HTTP", "HTTPS", "HTTPPROXY", "HTTPSPROXY", "TCP", "TLS", "UDP"],
            "Listener.spec.protocolStack[]": ["HTTP", "PROXY", "TLS", "TCP", "UDP"],
            "Listener.spec.securityModel": ["XFP", "SECURE", "INSECURE"],
            "Listener.status.conditions[].status": statuses,
            "LogService.spec.driver": ["tcp", "http"],
            "LogService.spec.protocol_version": protocols,
            "LogService.status.conditions[].status": statuses,
            "Mapping.spec.add_request_headers{}.v2Representation": representation,
            "Mapping.spec.add_response_headers{}.v2Representation": representation,
            "Mapping.spec.circuit_breakers[].priority": ["default", "high"],
            "Mapping.spec.health_checks[].health_check.http.add_request_headers{}.v2Representation": representation,
            "Mapping.spec.labels{}[]{}[].destination_cluster.key": ["destination_cluster"],
            "Mapping.spec.labels{}[]{}[].remote_address.key": ["remote_address"],
            "Mapping.spec.labels{}[]{}[].source_cluster.key": ["source_cluster"],
            "Mapping.spec.load_balancer.policy": ["round_robin", "ring_hash", "maglev", "least_request"],
            "Mapping.spec.redirect_response_code": [301, 302, 303, 307, 308],
            "Mapping.spec.retry_policy.retry_on": [
                "5xx", "gateway-error", "connect-failure", "retriable-4xx", "refused-stream", "retriable-status-codes"
            ],
            "Mapping.spec.v2ExplicitTLS.tls": explicit,
            "Mapping.status.conditions[].status": statuses,
            "Mapping.status.state": ["", "Inactive", "Running"],
            "Module.status.conditions[].status": statuses,
            "RateLimitService.spec.protocol_version": protocols,
            "RateLimitService.spec.v2ExplicitTLS.tls": explicit,
            "RateLimitService.status.conditions[].status": statuses,
            "TCPMapping.spec.circuit_breakers[].priority": ["default", "high"],
            "TCPMapping.spec.v2ExplicitTLS.tls": explicit,
            "TCPMapping.status.conditions[].status": statuses,
            "TLSContext.spec.max_tls_version": versions,
            "TLSContext.spec.min_tls_version": versions,
            "TLSContext.status.conditions[].status": statuses,
            "TracingService.spec.config.collector_endpoint_version": ["HTTP_JSON_V1", "HTTP_JSON", "HTTP_PROTO"],
            "TracingService.spec.driver": ["lightstep", "zipkin", "datadog", "opentelemetry"],
            "TracingService.status.conditions[].status": statuses,
        }))
    );
}

#[test]
fn required_fields_are_those_of_emissary() {
    let condition = json!(["lastTransitionTime", "message", "reason", "status", "type"]);
    assert_eq!(
        found("required"),
        expected(json!({
            "AuthService.spec": ["auth_service"],
            "AuthService.spec.include_body": ["allow_partial", "max_bytes"],
            "AuthService.status.conditions[]": condition,
            "ConsulResolver.status.conditions[]": condition,
            "DevPortal.status.conditions[]": condition,
            "Host.spec.mappingSelector.matchExpressions[]": ["key", "operator"],
            "Host.spec.selector.matchExpressions[]": ["key", "operator"],
            "Host.status.conditions[]": condition,
            "Listener.spec": ["hostBinding", "port", "securityModel"],
            "Listener.spec.hostBinding.namespace.selector.matchExpressions[]": ["key", "operator"],
            "Listener.spec.hostBinding.selector.matchExpressions[]": ["key", "operator"],
            "Listener.status.conditions[]": condition,
            "LogService.status.conditions[]": condition,
            "Mapping.spec": ["prefix", "service"],
            "Mapping.spec.error_response_overrides[]": ["body", "on_status_code"],
            "Mapping.spec.health_checks[]": ["health_check"],
            "Mapping.spec.health_checks[].health_check.grpc": ["upstream_name"],
            "Mapping.spec.health_checks[].health_check.http": ["path"],
            "Mapping.spec.health_checks[].health_check.http.expected_statuses[]": ["max", "min"],
            "Mapping.spec.labels{}[]{}[].destination_cluster": ["key"],
            "Mapping.spec.labels{}[]{}[].generic_key": ["value"],
            "Mapping.spec.labels{}[]{}[].remote_address": ["key"],
            "Mapping.spec.labels{}[]{}[].request_headers": ["header_name", "key"],
            "Mapping.spec.labels{}[]{}[].source_cluster": ["key"],
            "Mapping.spec.load_balancer": ["policy"],
            "Mapping.spec.load_balancer.cookie": ["name"],
            "Mapping.status.conditions[]": condition,
            "Module.spec": ["config"],
            "Module.status.conditions[]": condition,
            "RateLimitService.spec": ["service"],
            "RateLimitService.status.conditions[]": condition,
            "TCPMapping.spec": ["port", "service"],
            "TCPMapping.status.conditions[]": condition,
            "TLSContext.status.conditions[]": condition,
            "TracingService.spec": ["driver", "service"],
            "TracingService.spec.custom_tags[]": ["tag"],
            "TracingService.spec.custom_tags[].environment": ["name"],
            "TracingService.spec.custom_tags[].literal": ["value"],
            "TracingService.spec.custom_tags[].request_header": ["name"],
            "TracingService.status.conditions[]": condition,
        }))
    );
}

#[test]
fn every_definition_is_that_of_its_row() {
    for info in KINDS {
        let Some(definition) = info.definition() else {
            assert_ne!(info.group, GROUP, "{}", info.name);
            continue;
        };
        let definition = serde_json::to_value(definition).unwrap();
        let spec = &definition["spec"];
        assert_eq!(spec["group"], info.group);
        assert_eq!(spec["names"]["kind"], info.name);
        assert_eq!(spec["names"]["plural"], info.plural);
        let scope = match info.scope {
            Scope::Namespaced => "Namespaced",
            Scope::Cluster => "Cluster",
            Scope::File => "none",
        };
        assert_eq!(spec["scope"], scope, "{}", info.name);
        let served = spec["versions"].as_array().unwrap().iter();
        let served: Vec<_> = served
            .filter(|version| version["served"] == true)
            .map(|version| {
                (
                    version["name"].as_str().unwrap(),
                    version["storage"] == true,
                )
            })
            .collect();
        assert_eq!(served, [(info.kind.version(), true)], "{}", info.name);
    }
}

#[test]
fn every_kind_is_found_by_category_and_label() {
    for definition in nuncio_crds::all() {
        let categories = definition.spec.names.categories.unwrap();
        assert_eq!(categories, ["ambassador-crds", "nuncio"]);
        let labels = definition.metadata.labels.unwrap();
        assert_eq!(labels["app.kubernetes.io/part-of"], "nuncio");
    }
}

#[test]
fn every_status_has_the_fields_of_its_row() {
    for info in KINDS {
        let Some(definition) = info.definition() else {
            continue;
        };
        assert_eq!(definition.spec.versions.len(), 1);
        for version in versions(info) {
            let schema = serde_json::to_value(version.schema.unwrap()).unwrap();
            let status = &schema["openAPIV3Schema"]["properties"]["status"]["properties"];
            let has_status = info.status.is_ours();
            assert_eq!(version.subresources.is_some(), has_status, "{}", info.name);
            assert_eq!(
                status["conditions"].is_object(),
                has_status,
                "{}",
                info.name
            );
            for field in info.status.fields() {
                assert!(status[field].is_object(), "{}.status.{field}", info.name);
            }
        }
    }
}

#[test]
fn every_kind_with_a_status_shows_it_in_few_columns() {
    let programmed = r#".status.conditions[?(@.type=="Programmed")].status"#;
    let reason = ".status.conditions[?(@.reason!=@.type)].reason";
    let message = ".status.conditions[?(@.reason!=@.type)].message";
    for info in KINDS.iter().filter(|info| info.status.is_ours()) {
        for version in versions(info) {
            let columns = version.additional_printer_columns.unwrap();
            let (wide, narrow): (Vec<_>, Vec<_>) =
                columns.iter().partition(|column| column.priority.is_some());
            let last: Vec<_> = narrow[narrow.len() - 3..]
                .iter()
                .map(|column| (column.name.as_str(), column.json_path.as_str()))
                .collect();
            assert_eq!(
                last,
                [
                    ("Programmed", programmed),
                    ("Reason", reason),
                    ("Age", ".metadata.creationTimestamp")
                ],
                "{}",
                info.name
            );
            let last = wide.last().unwrap();
            assert_eq!(
                (last.name.as_str(), last.json_path.as_str()),
                ("Message", message)
            );
            for column in narrow {
                // sentences widen the table; they belong to `-o wide`
                assert!(!column.json_path.ends_with("essage"), "{}", info.name);
                assert!(
                    !column.json_path.starts_with(".status.reason"),
                    "{}",
                    info.name
                );
                assert!(
                    !column.json_path.starts_with(".status.error"),
                    "{}",
                    info.name
                );
            }
        }
    }
}

/// The value of a keyword, by the path of each node that has it.
fn found(keyword: &str) -> BTreeMap<String, Value> {
    let mut found = BTreeMap::new();
    for_each_node(|path, node| {
        if let Some(value) = node.get(keyword) {
            found.insert(path.to_owned(), value.clone());
        }
    });
    found
}

fn expected(table: Value) -> BTreeMap<String, Value> {
    serde_json::from_value(table).unwrap()
}

/// The versions of a kind.
fn versions(info: &KindInfo) -> impl Iterator<Item = CustomResourceDefinitionVersion> {
    let all = ApiVersion::ALL.into_iter();
    all.filter_map(|version| info.version(version))
}

/// Visits every node of every kind's schema, by a path that starts with the kind.
fn for_each_node(mut visit: impl FnMut(&str, &Value)) {
    for definition in nuncio_crds::all() {
        for version in &definition.spec.versions {
            let schema = serde_json::to_value(version.schema.as_ref().unwrap()).unwrap();
            walk(
                &schema["openAPIV3Schema"],
                &definition.spec.names.kind,
                &mut visit,
            );
        }
    }
}

/// Visits every node of the schema of every version, by a path that starts with the kind and the version.
fn for_each_node_of_all(mut visit: impl FnMut(&str, &Value)) {
    for info in KINDS {
        for version in versions(info) {
            let schema = serde_json::to_value(version.schema.unwrap()).unwrap();
            let path = format!("{}.{}", info.name, version.name);
            walk(&schema["openAPIV3Schema"], &path, &mut visit);
        }
    }
}

fn walk(node: &Value, path: &str, visit: &mut impl FnMut(&str, &Value)) {
    visit(path, node);
    for (name, property) in node["properties"].as_object().into_iter().flatten() {
        walk(property, &format!("{path}.{name}"), visit);
    }
    for (keyword, suffix) in [("items", "[]"), ("additionalProperties", "{}")] {
        if node[keyword].is_object() {
            walk(&node[keyword], &format!("{path}{suffix}"), visit);
        }
    }
}
