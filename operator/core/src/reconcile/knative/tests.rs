use serde_json::json;

use super::*;
use crate::{reconcile::reconcile, settings::Settings};

fn read(annotations: &Value, spec: &Value) -> (Option<KnativeIngress>, Vec<String>) {
    let metadata = json!({"name": "a", "namespace": "default", "annotations": annotations});
    let object = json!({"metadata": metadata, "spec": spec});
    let found = reconcile(Kind::KnativeIngress, object, &Settings::default());
    let problems = found.problems.iter();
    let problems = problems.map(|problem| format!("{}: {}", problem.path, problem.message));
    let ingress = match found.fragment {
        Some(Fragment::KnativeIngress(ingress)) => Some((*ingress).clone()),
        _ => None,
    };
    (ingress, problems.collect())
}

fn rule(hosts: usize, splits: usize) -> Value {
    let hosts: Vec<String> = (0..hosts).map(|number| format!("h{number}.a")).collect();
    let splits = vec![json!({"serviceName": "a", "percent": 100 / splits.max(1)}); splits];
    json!({"hosts": hosts, "http": {"paths": [{"splits": splits}]}})
}

/// Percentages of the splits of a path.
fn percents(splits: &Value) -> Vec<u32> {
    let spec =
        json!({"rules": [{"hosts": ["a.example"], "http": {"paths": [{"splits": splits}]}}]});
    let (ingress, _) = read(&json!({}), &spec);
    let ingress = ingress.unwrap();
    ingress.splits().map(|split| split.percent).collect()
}

#[test]
fn both_annotations_name_the_class() {
    let spec = json!({"rules": [rule(1, 1)]});
    let is_ours = |annotations: Value| read(&annotations, &spec).0.is_some();
    let own = "Ambassador.Ingress.networking.knative.dev";
    assert!(is_ours(json!({})));
    for name in CLASSES {
        assert!(is_ours(json!({name: own})));
        assert!(!is_ours(json!({name: "kourier"})));
    }
    assert!(!is_ours(json!({CLASSES[0]: own, CLASSES[1]: "kourier"})));
}

#[test]
fn combinations_of_hosts_and_splits_are_limited() {
    let (ingress, problems) = read(
        &json!({}),
        &json!({"rules": [rule(1000, 2), rule(1, 1), rule(20_000, 20_000)]}),
    );
    let served: Vec<bool> = ingress.unwrap().rules.iter().map(Option::is_some).collect();
    assert_eq!(served, [true, false, false]);
    assert!(
        problems
            .iter()
            .any(|problem| problem.starts_with("spec.rules[1]: an Ingress can have 2000")),
        "{problems:?}"
    );
}

#[test]
fn percents_add_up_to_a_hundred() {
    let split = |percent: Value| json!({"serviceName": "a", "percent": percent});
    let of = |all: &[Value]| percents(&all.iter().cloned().map(split).collect());
    assert_eq!(of(&[json!(80), json!(20)]), [80, 20]);
    assert_eq!(of(&[json!(null)]), [100]);
    assert_eq!(of(&[json!(100), json!(0)]), [100, 0]);
    assert_eq!(of(&[json!(30), json!(30), json!(30)]), [33, 33, 34]);
    assert_eq!(of(&[json!(100), json!(100)]), [50, 50]);
    assert_eq!(of(&[json!(80), json!("20")]), [100]);
    assert_eq!(of(&[json!(0), json!(-1), json!(101), json!(0.5)]), [100]);
    assert_eq!(percents(&json!([])), [100], "for requests that get 503");
    assert_eq!(percents(&json!("a")), [100]);
}

#[test]
fn ports_are_numbers_or_names() {
    let port = |port: Value| {
        let splits = json!([{"serviceName": "a", "servicePort": port}]);
        let spec =
            json!({"rules": [{"hosts": ["a.example"], "http": {"paths": [{"splits": splits}]}}]});
        let ingress = read(&json!({}), &spec).0.unwrap();
        let backend = ingress.splits().next().unwrap().backend.clone();
        backend.map(|backend| backend.port)
    };
    assert_eq!(port(json!(null)), Some(Port::Number(80)));
    assert_eq!(port(json!(8080)), Some(Port::Number(8080)));
    assert_eq!(port(json!("8080")), Some(Port::Number(8080)));
    assert_eq!(port(json!("http")), Some(Port::Name("http".to_owned())));
    for invalid in [json!(0), json!(65_536), json!("0"), json!("a b"), json!({})] {
        assert_eq!(port(invalid.clone()), None, "{invalid}");
    }
}

#[test]
fn an_ingress_without_anything_to_serve_says_so() {
    for spec in [json!({}), json!({"rules": [{}]}), json!({"rules": [null]})] {
        let (_, problems) = read(&json!({}), &spec);
        assert_eq!(problems.len(), 1, "{spec}: {problems:?}");
    }
}
