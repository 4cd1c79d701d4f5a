use proptest::{collection::btree_map, prelude::*, sample::select};
use serde_json::{Value, json};

use super::{ApiVersion, convert, kept::ANNOTATION};
use crate::KINDS;

fn object(version: ApiVersion, kind: &str, spec: Value) -> Value {
    let mut object = json!({
        "apiVersion": version.to_string(),
        "kind": kind,
        "metadata": {"name": "x", "namespace": "default"},
    });
    object["spec"] = spec;
    object
}

fn to(version: ApiVersion, object: &Value) -> Value {
    convert(object.clone(), version).unwrap()
}

/// Converts specs of a kind: from `v2` to `v3alpha1` and back.
fn both_ways(kind: &str, old: Value, new: Value) {
    let old = object(
        ApiVersion::V2,
        kind,
        with(
            old,
            "ambassador_id",
            json!(["--apiVersion-v3alpha1-only--a"]),
        ),
    );
    let new = object(
        ApiVersion::V3Alpha1,
        kind,
        with(new, "ambassador_id", json!(["a"])),
    );
    assert_eq!(to(ApiVersion::V3Alpha1, &old), new);
    assert_eq!(to(ApiVersion::V2, &new), old);
}

fn with(mut object: Value, field: &str, value: Value) -> Value {
    object[field] = value;
    object
}

/// What a spec becomes in the hub, whatever is kept.
fn new(kind: &str, old: Value) -> Value {
    let old = object(ApiVersion::V2, kind, old);
    to(ApiVersion::V3Alpha1, &old)["spec"].clone()
}

#[test]
fn an_object_is_of_the_group_and_of_a_version_of_its_kind() {
    let error = |object: Value, version| convert(object, version).unwrap_err().to_string();
    let v2 = |kind| object(ApiVersion::V2, kind, json!({}));
    assert_eq!(error(json!([]), ApiVersion::V2), "must be an object");
    assert_eq!(
        error(
            json!({"apiVersion": "v1", "kind": "Mapping"}),
            ApiVersion::V2
        ),
        r#"apiVersion: must be a version of getambassador.io, not "v1""#
    );
    assert_eq!(
        error(v2("Listener"), ApiVersion::V3Alpha1),
        r#"kind: getambassador.io/v2 has no kind "Listener""#
    );
    assert_eq!(
        error(v2("Host"), ApiVersion::V1),
        r#"kind: getambassador.io/v1 has no kind "Host""#
    );
    assert_eq!(
        error(object(ApiVersion::V2, "Mapping", json!([])), ApiVersion::V1),
        "spec: must be an object"
    );
    let same = v2("Mapping");
    assert_eq!(to(ApiVersion::V2, &same), same);
    let without_spec = json!({"apiVersion": "getambassador.io/v2", "kind": "Host"});
    let converted = to(ApiVersion::V3Alpha1, &without_spec);
    assert_eq!(converted["apiVersion"], "getambassador.io/v3alpha1");
}

#[test]
fn ids_are_marked_in_old_versions() {
    let old = |ids: Value| {
        let object = object(
            ApiVersion::V3Alpha1,
            "Module",
            json!({"ambassador_id": ids}),
        );
        to(ApiVersion::V2, &object)["spec"]["ambassador_id"].clone()
    };
    assert_eq!(old(json!(["a"])), json!(["--apiVersion-v3alpha1-only--a"]));
    assert_eq!(
        old(json!(["--apiVersion-v3alpha1-only--a"])),
        json!(["--apiVersion-v3alpha1-only--a"])
    );
    assert_eq!(
        old(Value::Null),
        json!(["--apiVersion-v3alpha1-only--default"])
    );
    assert_eq!(
        new("Module", json!({"ambassador_id": "a"})),
        json!({"ambassador_id": ["a"]})
    );
    assert_eq!(new("Module", json!({})), json!({}));
    let more = json!({"ambassador_id": ["a"], "ambassadorId": ["b"]});
    assert_eq!(new("Host", more)["ambassador_id"], json!(["a", "b"]));
}

#[test]
fn more_ids_of_a_host_are_there_once() {
    let old = json!({"ambassador_id": "a", "ambassadorId": "b"});
    let mut object = object(ApiVersion::V2, "Host", old);
    for _ in 0..3 {
        let hub = to(ApiVersion::V3Alpha1, &object);
        assert_eq!(hub["spec"]["ambassador_id"], json!(["a", "b"]));
        object = to(ApiVersion::V2, &hub);
        assert_eq!(object["spec"]["ambassadorId"], "b");
    }
    let mut hub = to(ApiVersion::V3Alpha1, &object);
    hub["spec"]["ambassador_id"] = json!(["a"]);
    let old = to(ApiVersion::V2, &hub);
    assert_eq!(old["spec"].get("ambassadorId"), None);
    assert_eq!(
        new("Host", old["spec"].clone())["ambassador_id"],
        json!(["a"])
    );
}

#[test]
fn paths_have_the_names_of_old_versions() {
    let path = |kind, path| super::old_path(kind, path);
    assert_eq!(path("Mapping", "spec.hostname"), "spec.host");
    assert_eq!(
        path("Mapping", "spec.hostname_other"),
        "spec.hostname_other"
    );
    assert_eq!(path("Mapping", "spec.stats_name"), "spec.v3StatsName");
    assert_eq!(path("Mapping", "metadata.name"), "metadata.name");
    assert_eq!(path("Host", "spec.tls.crl_secret"), "spec.tls.v3CRLSecret");
    assert_eq!(path("Host", "spec.mappingSelector.x"), "spec.selector.x");
    assert_eq!(
        path("TracingService", "spec.custom_tags[1].tag"),
        "spec.v3CustomTags[1].tag"
    );
}

#[test]
fn fields_have_other_names() {
    both_ways(
        "AuthService",
        json!({"v3StatsName": "a", "v3CircuitBreakers": []}),
        json!({"stats_name": "a", "circuit_breakers": []}),
    );
    both_ways(
        "Host",
        json!({"selector": {}, "tls": {"v3CRLSecret": "a"}}),
        json!({"mappingSelector": {}, "tls": {"crl_secret": "a"}}),
    );
    both_ways(
        "LogService",
        json!({"v3ProtocolVersion": "v3"}),
        json!({"protocol_version": "v3"}),
    );
    both_ways(
        "RateLimitService",
        json!({"v3GRPC": {}}),
        json!({"grpc": {}}),
    );
    both_ways(
        "TLSContext",
        json!({"v3CRLSecret": "a"}),
        json!({"crl_secret": "a"}),
    );
    both_ways(
        "TracingService",
        json!({"v3CustomTags": [], "config": {"v3PropagationModes": ["B3"]}}),
        json!({"custom_tags": [], "config": {"propagation_modes": ["B3"]}}),
    );
    both_ways(
        "Mapping",
        json!({"host": "a", "v3health_checks": []}),
        json!({"hostname": "a", "health_checks": []}),
    );
}

#[test]
fn tls_is_a_scheme_in_the_hub() {
    let mapping = |old: Value, new: Value| {
        both_ways(
            "Mapping",
            with(old, "host", json!("a")),
            with(new, "hostname", json!("a")),
        );
    };
    mapping(json!({"service": "foo"}), json!({"service": "foo"}));
    mapping(
        json!({"service": "https://foo"}),
        json!({"service": "https://foo"}),
    );
    mapping(
        json!({"service": "foo", "tls": true}),
        json!({"service": "https://foo", "v2ExplicitTLS": {"serviceScheme": "", "tls": "bool:true"}}),
    );
    mapping(
        json!({"service": "HTTP://foo", "tls": true}),
        json!({"service": "https://foo", "v2ExplicitTLS": {"serviceScheme": "HTTP://", "tls": "bool:true"}}),
    );
    mapping(
        json!({"service": "HTTPS://foo", "tls": true}),
        json!({"service": "HTTPS://foo", "v2ExplicitTLS": {"tls": "bool:true"}}),
    );
    mapping(
        json!({"service": "foo", "tls": false}),
        json!({"service": "foo", "v2ExplicitTLS": {"tls": "bool:false"}}),
    );
    mapping(
        json!({"service": "foo", "tls": ""}),
        json!({"service": "foo", "v2ExplicitTLS": {"tls": "string"}}),
    );
    mapping(
        json!({"service": "foo", "tls": null}),
        json!({"service": "foo", "v2ExplicitTLS": {"tls": "null"}}),
    );
    mapping(
        json!({"service": "foo", "tls": "context"}),
        json!({"service": "foo", "tls": "context", "v2ExplicitTLS": {}}),
    );
    both_ways(
        "TCPMapping",
        json!({"service": "foo", "tls": true}),
        json!({"service": "https://foo", "v2ExplicitTLS": {"tls": "bool:true"}}),
    );
    both_ways(
        "TCPMapping",
        json!({"service": "foo", "tls": "context"}),
        json!({"service": "foo", "tls": "context"}),
    );
}

#[test]
fn a_mapping_without_a_host_is_for_every_host() {
    assert_eq!(new("Mapping", json!({})), json!({"hostname": "*"}));
    assert_eq!(
        new("Mapping", json!({"host": "_skip_mapping_with_empty_host_"})),
        json!({})
    );
    let regex = json!({"host": "a.*", "host_regex": true});
    assert_eq!(new("Mapping", regex.clone()), regex);
    both_ways("Mapping", json!({}), json!({"hostname": "*"}));
    both_ways(
        "Mapping",
        json!({"host": "_skip_mapping_with_empty_host_"}),
        json!({}),
    );
    both_ways(
        "Mapping",
        json!({"host": "a", "host_regex": false}),
        json!({"hostname": "a", "host_regex": false}),
    );
}

#[test]
fn headers_labels_and_origins_have_other_shapes() {
    let mapping = |old: Value, new: Value| {
        both_ways(
            "Mapping",
            with(old, "host", json!("a")),
            with(new, "hostname", json!("a")),
        );
    };
    mapping(
        json!({"headers": {"a": "b", "c": true}}),
        json!({"headers": {"a": "b"}, "regex_headers": {"c": ".*"}, "v2BoolHeaders": ["c"]}),
    );
    mapping(
        json!({"query_parameters": {"c": true}, "regex_query_parameters": {"c": "d"}}),
        json!({"regex_query_parameters": {"c": "d"}, "v2BoolQueryParameters": ["c"]}),
    );
    mapping(
        json!({"add_request_headers": {"a": "b", "c": null, "d": {"value": "e", "append": false}}}),
        json!({"add_request_headers": {"a": {"value": "b", "v2Representation": "string"}, "c": {"v2Representation": "null"}, "d": {"value": "e", "append": false}}}),
    );
    mapping(
        json!({"cors": {"origins": "a,b", "methods": ["GET"]}}),
        json!({"cors": {"origins": ["a", "b"], "methods": ["GET"], "v2CommaSeparatedOrigins": true}}),
    );
    let labels = |list: Value| json!({"labels": {"domain": [{"group": list}]}});
    mapping(
        labels(
            json!(["remote_address", "text", {"x": {"header": "h", "omit_if_not_present": true}}, {"generic_key": "v", "v3Key": "k"}]),
        ),
        labels(json!([
            {"remote_address": {"key": "remote_address"}},
            {"generic_key": {"value": "text", "v2Shorthand": true}},
            {"request_headers": {"key": "x", "header_name": "h", "omit_if_not_present": true}},
            {"generic_key": {"value": "v", "key": "k"}}
        ])),
    );
    let tags = new("TracingService", json!({"tag_headers": ["h"]}));
    assert_eq!(
        tags,
        json!({"custom_tags": [{"tag": "h", "request_header": {"name": "h"}}]})
    );
}

#[test]
fn what_cannot_be_expressed_is_kept_until_it_is_edited() {
    let old = json!({"headers": {"a": false}, "host": "a", "unknown": null, "ambassador_id": ["--apiVersion-v3alpha1-only--a"]});
    let old = object(ApiVersion::V2, "Mapping", old);
    let mut new = to(ApiVersion::V3Alpha1, &old);
    assert_eq!(
        new["spec"],
        json!({"hostname": "a", "unknown": null, "ambassador_id": ["a"]})
    );
    assert!(new["metadata"]["annotations"][ANNOTATION].is_string());
    assert_eq!(to(ApiVersion::V2, &new), old);
    new["spec"]["headers"] = json!({"b": "c"});
    assert_eq!(
        to(ApiVersion::V2, &new)["spec"]["headers"],
        json!({"b": "c"})
    );
    // what somebody wrote there is no reason to fail
    new["metadata"]["annotations"][ANNOTATION] = json!("{");
    assert_eq!(
        to(ApiVersion::V2, &new)["spec"]["headers"],
        json!({"b": "c"})
    );
}

/// Values that mean something somewhere, and others.
fn value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        (-2_i64..3).prop_map(Value::from),
        select(
            &[
                "",
                "*",
                "a",
                ".*",
                "a,b",
                "foo",
                "http://foo",
                "HTTPS://foo",
                "source_cluster",
                "remote_address",
                "null",
                "string",
                "bool:true",
                "_skip_mapping_with_empty_host_",
                "--apiVersion-v3alpha1-only--a",
            ][..]
        )
        .prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 24, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            btree_map(name(), inner, 0..5).prop_map(|map| map.into_iter().collect()),
        ]
    })
}

/// Names that mean something somewhere, and others.
fn name() -> impl Strategy<Value = String> {
    select(
        &[
            "a",
            "ambassadorId",
            "ambassador_id",
            "append",
            "auth_service",
            "config",
            "cors",
            "custom_tags",
            "generic_key",
            "header",
            "header_name",
            "headers",
            "host",
            "host_regex",
            "hostname",
            "key",
            "labels",
            "mappingSelector",
            "methods",
            "omit_if_not_present",
            "origins",
            "propagation_modes",
            "query_parameters",
            "regex_headers",
            "remote_address",
            "remove_request_headers",
            "request_headers",
            "selector",
            "service",
            "serviceScheme",
            "source_cluster",
            "stats_name",
            "tag_headers",
            "tls",
            "v2BoolHeaders",
            "v2CommaSeparatedOrigins",
            "v2ExplicitTLS",
            "v2Representation",
            "v2Shorthand",
            "v3CustomTags",
            "v3Key",
            "v3StatsName",
            "v3health_checks",
            "value",
            "add_request_headers",
            "health_checks",
        ][..],
    )
    .prop_map(str::to_owned)
}

fn spec() -> impl Strategy<Value = Value> {
    let labels =
        prop::collection::vec(value(), 0..3).prop_map(|list| json!({"domain": [{"group": list}]}));
    let fields = btree_map(name(), value(), 0..6);
    (fields, proptest::option::of(labels)).prop_map(|(fields, labels)| {
        let mut spec: Value = fields.into_iter().collect();
        if let Some(labels) = labels {
            spec["labels"] = labels;
        }
        spec
    })
}

/// Each kind, a version of it, and another or the same.
fn route() -> impl Strategy<Value = (&'static str, ApiVersion, ApiVersion)> {
    let versions = |kind: &'static str| {
        let all = ApiVersion::ALL.into_iter();
        all.filter(move |version| version.has(kind))
    };
    let all = KINDS.iter().map(|info| info.name).flat_map(|kind| {
        let from = versions(kind);
        from.flat_map(move |from| versions(kind).map(move |over| (kind, from, over)))
    });
    select(all.collect::<Vec<_>>())
}

proptest! {
    /// The identity aside, every object comes back from every version and over every other, whatever is in it.
    #[test]
    fn every_object_comes_back((kind, from, over) in route(), spec in spec()) {
        let before = object(from, kind, spec);
        let mut back = to(from, &to(over, &before));
        let mut expected = before.clone();
        for object in [&mut back, &mut expected] {
            object["spec"].as_object_mut().unwrap().remove("ambassador_id");
        }
        prop_assert_eq!(back, expected);
    }
}
