//! Objects of every kind and version, generated from the schemas: each comes back from every other version as it was, its
//! identity aside, and on the way it has only fields that the other version has, so that the apiserver drops none.
//!
//! `PROPTEST_CASES=1000000 cargo test --release --package nuncio-crds --test conversion` runs a million objects of each kind.
#![expect(
    clippy::unwrap_used,
    reason = "a test, though clippy does not see that of functions beside it"
)]

use std::sync::LazyLock;

use nuncio_crds::{
    GROUP, KINDS, KindInfo,
    conversion::{ApiVersion, convert, kept::ANNOTATION},
};
use proptest::{
    collection::{btree_map, vec},
    option::weighted,
    prelude::*,
    sample::select,
    strategy::Union,
    test_runner::{Config, TestRunner},
};
use serde_json::{Map, Value, json};

/// How often an optional field is set.
const OFTEN: f64 = 0.2;

/// Texts that mean something somewhere, and others.
const TEXTS: [&str; 16] = [
    "",
    "*",
    "a",
    ".*",
    "a,b",
    "foo:80",
    "http://foo",
    "HTTPS://foo",
    "source_cluster",
    "remote_address",
    "null",
    "string",
    "bool:true",
    "default",
    "_skip_mapping_with_empty_host_",
    "--apiVersion-v3alpha1-only--a",
];

#[test]
fn every_object_comes_back_from_every_version() {
    std::thread::scope(|scope| {
        for info in defined() {
            scope.spawn(move || of_kind(info));
        }
    });
}

fn defined() -> impl Iterator<Item = &'static KindInfo> {
    KINDS.iter().filter(|info| info.group == GROUP)
}

fn of_kind(info: &KindInfo) {
    let versions: Vec<ApiVersion> = ApiVersion::ALL
        .into_iter()
        .filter(|version| version.has(info.name))
        .collect();
    let each = versions.iter().map(|version| {
        let spec = value(spec(info, *version), "spec");
        (spec, Just(*version)).boxed()
    });
    let objects = (Union::new(each), select(versions));
    let mut runner = TestRunner::new(Config {
        // its file of failures is beside the source, which a test of several threads does not know
        failure_persistence: None,
        ..Config::default()
    });
    let checked = runner.run(&objects, |((spec, from), over)| {
        let object = json!({
            "apiVersion": from.to_string(),
            "kind": info.name,
            "metadata": {"name": "x", "namespace": "default"},
            "spec": spec,
        });
        check(info, &object, from, over)
    });
    assert!(checked.is_ok(), "{}: {}", info.name, checked.unwrap_err());
}

/// Converts an object over another version and back.
fn check(
    info: &KindInfo,
    object: &Value,
    from: ApiVersion,
    over: ApiVersion,
) -> Result<(), TestCaseError> {
    let there = convert(object.clone(), over).unwrap();
    let mut strange = Vec::new();
    compare(spec(info, over), &there["spec"], "spec", &mut strange);
    prop_assert_eq!(&strange, &Vec::<String>::new(), "{} as {}", object, over);
    let mut back = convert(there.clone(), from).unwrap();
    let mut expected = object.clone();
    for object in [&mut back, &mut expected] {
        object["spec"]
            .as_object_mut()
            .unwrap()
            .remove("ambassador_id");
    }
    prop_assert_eq!(&back, &expected, "over {}", there);
    // what needs nothing to be kept has no annotation
    if from == over {
        prop_assert!(there["metadata"]["annotations"].get(ANNOTATION).is_none());
    }
    Ok(())
}

/// The schema of a spec.
fn spec(info: &KindInfo, version: ApiVersion) -> &'static Value {
    static SPECS: LazyLock<Map<String, Value>> = LazyLock::new(|| {
        let all = defined().flat_map(|info| {
            ApiVersion::ALL.into_iter().filter_map(|version| {
                let schema = info.version(version)?.schema.unwrap();
                let schema = serde_json::to_value(schema).unwrap();
                let spec = schema["openAPIV3Schema"]["properties"]["spec"].clone();
                Some((format!("{} {version}", info.name), spec))
            })
        });
        all.collect()
    });
    &SPECS[&format!("{} {version}", info.name)]
}

/// Fields that a schema does not have, and values of other types.
fn compare(schema: &Value, value: &Value, path: &str, strange: &mut Vec<String>) {
    let fits = match schema["type"].as_str() {
        None => return,
        Some("object") => value.is_object(),
        Some("array") => value.is_array(),
        Some("string") => value.is_string(),
        Some("boolean") => value.is_boolean(),
        Some("integer") => value.is_i64(),
        Some(_other) => value.is_number(),
    };
    if !fits {
        strange.push(format!("{path}: {value}"));
    }
    for (name, field) in value.as_object().into_iter().flatten() {
        let path = format!("{path}.{name}");
        if let Some(schema) = schema["properties"].get(name) {
            compare(schema, field, &path, strange);
        } else if schema["additionalProperties"].is_object() {
            compare(&schema["additionalProperties"], field, &path, strange);
        } else if schema["x-kubernetes-preserve-unknown-fields"] != true {
            strange.push(path);
        }
    }
    for (index, item) in value.as_array().into_iter().flatten().enumerate() {
        compare(&schema["items"], item, &format!("{path}[{index}]"), strange);
    }
}

/// Values of this schema.
fn value(schema: &Value, path: &str) -> BoxedStrategy<Value> {
    if let Some(values) = schema["enum"].as_array() {
        return select(values.clone()).boxed();
    }
    match schema["type"].as_str() {
        Some("boolean") => any::<bool>().prop_map(Value::from).boxed(),
        Some("integer") => (0_i64..1000).prop_map(Value::from).boxed(),
        Some("number") => (0_i64..100).prop_map(|n| json!(n)).boxed(),
        Some("string") if schema["pattern"].is_string() => select(vec!["", "http://", "HTTPS://"])
            .prop_map(Value::from)
            .boxed(),
        Some("string") => text(),
        Some("array") => {
            let least = usize::from(schema["minItems"] == 1);
            let items = value(&schema["items"], &format!("{path}[]"));
            vec(items, least..3).prop_map(Value::from).boxed()
        }
        Some("object") => object(schema, path),
        _ => old(path),
    }
}

fn text() -> BoxedStrategy<Value> {
    select(&TEXTS[..]).prop_map(Value::from).boxed()
}

fn object(schema: &Value, path: &str) -> BoxedStrategy<Value> {
    let Some(properties) = schema["properties"].as_object() else {
        let values = match &schema["additionalProperties"] {
            Value::Object(_) => value(&schema["additionalProperties"], &format!("{path}{{}}")),
            // anything is kept
            _ => prop_oneof![text(), Just(json!({"a": [1, null]}))].boxed(),
        };
        let counts = match schema["maxProperties"].as_u64() {
            Some(_one) => 1..2,
            None => 0..4,
        };
        let names = select(vec!["a", "x-b", "remote_address", "headers"]);
        let names = names.prop_map(str::to_owned);
        return btree_map(names, values, counts)
            .prop_map(|map| map.into_iter().collect())
            .boxed();
    };
    let field = |(name, schema): (&String, &Value)| {
        let name = name.clone();
        let field = value(schema, &format!("{path}.{name}"));
        field.prop_map(move |value| (name.clone(), value)).boxed()
    };
    if schema["maxProperties"] == 1 {
        let one = Union::new(properties.iter().map(field));
        return one.prop_map(|one| Value::from_iter([one])).boxed();
    }
    let required: Vec<&Value> = schema["required"]
        .as_array()
        .into_iter()
        .flatten()
        .collect();
    let fields: Vec<_> = properties
        .iter()
        .map(|(name, schema)| {
            let field = field((name, schema));
            match required.contains(&&json!(name)) {
                true => field.prop_map(Some).boxed(),
                false => weighted(OFTEN, field).boxed(),
            }
        })
        .collect();
    let collected = fields.prop_map(|fields| fields.into_iter().flatten().collect::<Value>());
    collected.boxed()
}

/// What old versions take where a schema cannot say it.
fn old(path: &str) -> BoxedStrategy<Value> {
    let list = || vec(text(), 0..3).prop_map(Value::from);
    let last = path.rsplit('.').next().unwrap_or_default();
    match last {
        "tls" => prop_oneof![
            text(),
            any::<bool>().prop_map(Value::from),
            Just(Value::Null)
        ]
        .boxed(),
        "headers{}" | "query_parameters{}" => prop_oneof![
            text(),
            any::<bool>().prop_map(Value::from),
            Just(Value::Null)
        ]
        .boxed(),
        "add_request_headers{}" | "add_response_headers{}" => {
            let fields = (weighted(0.8, text()), weighted(0.5, any::<bool>()));
            let object = fields.prop_map(|(value, append)| {
                let value = value.map(|value| ("value".to_owned(), value));
                let append = append.map(|append| ("append".to_owned(), append.into()));
                value.into_iter().chain(append).collect::<Value>()
            });
            prop_oneof![text(), Just(Value::Null), object].boxed()
        }
        "labels{}[]{}[]" => {
            let generic = (text(), weighted(0.5, text())).prop_map(|(value, key)| match key {
                Some(key) => json!({"generic_key": value, "v3Key": key}),
                None => json!({"generic_key": value}),
            });
            let header =
                (text(), weighted(0.5, any::<bool>())).prop_map(|(name, omit)| match omit {
                    Some(omit) => json!({"x": {"header": name, "omit_if_not_present": omit}}),
                    None => json!({"x": {"header": name}}),
                });
            prop_oneof![text(), generic, header].boxed()
        }
        _ => prop_oneof![text(), list()].boxed(),
    }
}
