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

#[cfg(test)]
mod tests {
    use nuncio_core::{reconcile::Name, report::Problem};

    use super::*;
    use crate::status::{
        condition::tests::{NOW, status_behind},
        observed::Observed,
    };

    const KIND: Kind = Kind::KnativeIngress;

    fn service() -> Gateway {
        Gateway::Service(Name {
            namespace: "edge".into(),
            name: "gateway".into(),
        })
    }

    /// Status of an object whose report came with snapshot 5.
    fn status_of(report: &Report, acked: &[u64], observed: &Observed, gateway: &Gateway) -> Value {
        status_behind(gateway, KIND, report, acked, observed)
    }

    fn served() -> Report {
        Report {
            generation: 4,
            in_service: true,
            ..Report::default()
        }
    }

    /// `status/reason` of the conditions.
    fn conditions(status: &Value) -> Vec<String> {
        let all = status["conditions"].as_array().unwrap().iter();
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        all.map(|one| format!("{}/{}", text(&one["status"]), text(&one["reason"])))
            .collect()
    }

    #[test]
    fn it_is_ready_when_envoys_serve_all_of_it() {
        let observed = Observed::default();
        let of = |report: &Report, acked: &[u64], gateway: &Gateway| {
            conditions(&status_of(report, acked, &observed, gateway))
        };
        assert_eq!(
            of(&served(), &[5], &service()),
            ["True/Accepted", "True/Programmed", "True/Programmed"]
        );
        assert_eq!(
            of(&served(), &[5, 4], &service()),
            ["True/Accepted", "False/Pending", "False/Pending"]
        );
        assert_eq!(
            of(&served(), &[5], &Gateway::None),
            [
                "True/Accepted",
                "False/ServiceNotFound",
                "False/ServiceNotFound"
            ]
        );
        let with = |problem: Problem| Report {
            problems: vec![problem],
            ..served()
        };
        let hint = Problem::notice(Reason::WITHOUT_EFFECT, "spec", "no effect");
        assert_eq!(of(&with(hint), &[5], &service())[2], "True/Programmed");
        let part = Problem::ignored(Reason::PARTIALLY_INVALID, "spec", "ignored");
        let found = status_of(&with(part), &[5], &observed, &service());
        assert_eq!(conditions(&found)[2], "False/PartiallyInvalid");
        assert_eq!(found["conditions"][2]["message"], "spec: ignored");
        let idle = Report {
            in_service: false,
            ..served()
        };
        assert_eq!(of(&idle, &[5], &service())[2], "False/NotServed");
    }

    #[test]
    fn what_was_written_is_read_back() {
        let observed = Observed::default();
        let written = status_of(&served(), &[5], &observed, &service());
        assert_eq!(written["observedGeneration"], 4);
        let domain = "gateway.edge.svc.cluster.local";
        for field in KIND.info().status.fields().iter().skip(1) {
            assert_eq!(written[*field]["ingress"][0]["domainInternal"], domain);
        }
        let read = Observed::of_status(KIND, &written);
        assert_eq!(read.generation, 4);
        assert_eq!(read.transitions, [Some((true, NOW)); 3]);
        let elsewhere = Gateway::Service(Name {
            namespace: "edge".into(),
            name: "other".into(),
        });
        let moved = status_of(&served(), &[5], &read, &elsewhere);
        assert_ne!(Observed::of_status(KIND, &moved).digest, read.digest);
    }

    #[test]
    fn a_time_changes_with_the_status_of_its_condition_only() {
        let observed = Observed {
            transitions: [Some((true, 60)), Some((false, 60)), None],
            ..Observed::default()
        };
        let status = status_of(&served(), &[5], &observed, &service());
        let since = |slot: usize| status["conditions"][slot]["lastTransitionTime"].clone();
        assert_eq!(since(0), "1970-01-01T00:01:00Z");
        assert_eq!(since(1), since(2));
        assert_ne!(since(1), since(0));
    }
}
