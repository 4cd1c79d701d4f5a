//! The status of an Ingress of Knative, in the terms of Knative: `NetworkConfigured` is what the object itself and its
//! references come to, `LoadBalancerReady` is whether Envoys have it and clients find them, and `Ready` is both. All of an
//! Ingress must be served as it is written: a part that is not makes it unready, because nothing else would show it.

use jiff::Timestamp;
use nuncio_core::{
    object::Kind,
    report::{ConditionType, Reason, Report, Severity},
};
use serde_json::{Map, Value, json};

use super::{Facts, Gateway, Verdict, described, merged, programmed, shortened, time};
use crate::status::observed::condition_types;

/// The status; with a gateway that is not known the one that says so.
pub(super) fn status(kind: Kind, facts: Facts<'_>, generation: i64, now: Timestamp) -> Value {
    let shares = facts.shares;
    let configured = merged(shares, false, |share| configured(share.report));
    let reachable = match facts.gateway {
        Gateway::Service(_) => merged(shares, true, programmed),
        Gateway::None | Gateway::Unknown => not(
            Reason::SERVICE_NOT_FOUND,
            "no Service of the gateway: set --ingress-service, or the label app.kubernetes.io/component: ambassador-service on it",
        ),
    };
    let ready = match (configured.is_true, reachable.is_true) {
        (false, _) => configured.clone(),
        (true, _) => reachable.clone(),
    };
    let verdicts = [configured, reachable, ready];
    let conditions: Vec<Value> = verdicts
        .into_iter()
        .zip(facts.observed.transitions)
        .zip(condition_types(kind))
        .map(|((verdict, before), name)| {
            let since = match before {
                Some((was_true, since)) if was_true == verdict.is_true => since,
                _ => now.as_second(),
            };
            // Knative's conditions have no generation of their own
            json!({
                "type": name,
                "status": if verdict.is_true { "True" } else { "False" },
                "reason": verdict.reason.as_str(),
                "message": shortened(&verdict.message),
                "lastTransitionTime": time(since),
            })
        })
        .collect();
    let mut status = Map::new();
    status.insert("observedGeneration".to_owned(), generation.into());
    status.insert("conditions".to_owned(), conditions.into());
    if let Gateway::Service(service) = facts.gateway {
        let domain = format!("{}.{}.svc.cluster.local", service.name, service.namespace);
        let balancer = json!({"ingress": [{"domainInternal": domain}]});
        for field in ["loadBalancer", "publicLoadBalancer", "privateLoadBalancer"] {
            status.insert(field.to_owned(), balancer.clone());
        }
    }
    Value::Object(status)
}

/// Whether all of an object is served as it is written.
fn configured(report: &Report) -> Verdict {
    let worst = report.problems.first();
    match worst.filter(|problem| problem.severity != Severity::Notice) {
        Some(problem) => not(problem.reason, &described(report, problem.condition)),
        None if !report.in_service => not(Reason::NOT_SERVED, "not served"),
        None => Verdict {
            is_true: true,
            reason: Reason::ACCEPTED,
            message: match described(report, ConditionType::Accepted) {
                hints if hints.is_empty() => "valid and without conflicts".to_owned(),
                hints => hints,
            },
        },
    }
}

fn not(reason: Reason, message: &str) -> Verdict {
    Verdict {
        is_true: false,
        reason,
        message: message.to_owned(),
    }
}
