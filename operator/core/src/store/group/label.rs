//! The labels that the Mappings of a group send to the rate limit service: those of its domain, each with the default
//! labels first. Each Mapping sends its own, for its share of the requests.

use nuncio_ir::{RateLimit, RateLimitPart};

use super::share::Member;
use crate::{
    defaults::Defaults,
    reconcile::{Forwarding, LabelGroup},
    report::{Problem, Reason},
};

/// Descriptions of a request for the rate limit service of this domain.
pub(super) fn rate_limits(own: &Forwarding, domain: &str, defaults: &Defaults) -> Vec<RateLimit> {
    let first = defaults.labels.get(domain);
    let first = first.map_or(&[][..], |parts| parts.as_slice());
    let describe = |takes_defaults: bool, parts: &[_]| RateLimit {
        parts: never_empty([if takes_defaults { first } else { &[] }, parts].concat()),
    };
    let limits: Vec<RateLimit> = if own.rate_limits.is_empty() && domain == defaults.label_domain {
        vec![describe(true, &[])]
    } else {
        groups(own, domain)
            .iter()
            .map(|group| describe(group.takes_defaults, &group.parts))
            .collect()
    };
    let limits = limits.into_iter();
    limits.filter(|limit| !limit.parts.is_empty()).collect()
}

/// Envoy would also send a description of which every label is omitted, and a service can limit that. So if all labels may
/// be omitted, the first may not: without it, no description is sent.
fn never_empty(mut parts: Vec<RateLimitPart>) -> Vec<RateLimitPart> {
    let is_optional = |part: &_| matches!(part, RateLimitPart::Header { optional: true, .. });
    if parts.iter().all(is_optional)
        && let Some(RateLimitPart::Header { optional, .. }) = parts.first_mut()
    {
        *optional = false;
    }
    parts
}

fn groups<'a>(own: &'a Forwarding, domain: &str) -> &'a [LabelGroup] {
    own.rate_limits.get(domain).map_or(&[], Vec::as_slice)
}

/// Reports labels that no service gets, and those that differ within the group.
pub(super) fn problems(
    members: &[&Member<'_>],
    domain: Option<&str>,
    report: &mut dyn FnMut(&Member<'_>, Problem),
) {
    for member in members {
        let labels = &member.mapping.forwarding.rate_limits;
        match domain {
            None if labels.is_empty() => {}
            None => {
                let message = "no effect: there is no RateLimitService";
                report(member, without_effect("spec.labels".to_owned(), message));
            }
            Some(domain) => {
                for other in labels.keys().filter(|other| *other != domain) {
                    let path = format!("spec.labels.{other}");
                    let message = format!(
                        "no effect: the RateLimitService uses the labels of domain {domain:?}"
                    );
                    report(member, without_effect(path, &message));
                }
            }
        }
    }
    let (Some(domain), Some((first, others))) = (domain, members.split_first()) else {
        return;
    };
    for member in others {
        let (first_own, own) = (&first.mapping.forwarding, &member.mapping.forwarding);
        if groups(own, domain) != groups(first_own, domain) {
            let message = format!(
                "differs from the labels of {}, which has the same match; each Mapping uses its own for its share of the requests",
                first.object
            );
            let path = "spec.labels";
            report(
                member,
                Problem::notice(Reason::GROUP_CONFLICT, path, message),
            );
        }
    }
}

fn without_effect(path: String, message: &str) -> Problem {
    Problem::notice(Reason::WITHOUT_EFFECT, path, message)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn fixed(value: &str) -> RateLimitPart {
        RateLimitPart::Fixed {
            key: "key".to_owned(),
            value: value.to_owned(),
        }
    }

    fn defaults() -> Defaults {
        let labels = ["shop", "other"].map(|domain| (domain.to_owned(), vec![fixed(domain)]));
        Defaults {
            label_domain: "shop".to_owned(),
            labels: BTreeMap::from(labels),
            ..Defaults::default()
        }
    }

    fn own(domain: &str, groups: &[(bool, &[&str])]) -> Forwarding {
        let groups = groups.iter().map(|(takes_defaults, values)| LabelGroup {
            parts: values.iter().copied().map(fixed).collect(),
            takes_defaults: *takes_defaults,
        });
        Forwarding {
            rate_limits: BTreeMap::from([(domain.to_owned(), groups.collect())]),
            ..Forwarding::default()
        }
    }

    fn described(own: &Forwarding, domain: &str) -> Vec<Vec<RateLimitPart>> {
        let limits = rate_limits(own, domain, &defaults());
        limits.into_iter().map(|limit| limit.parts).collect()
    }

    #[test]
    fn default_labels_come_first_in_each_group_once() {
        let own = own(
            "shop",
            &[(true, &["a"]), (true, &["b", "c"]), (false, &["d"])],
        );
        let expected = [
            vec![fixed("shop"), fixed("a")],
            vec![fixed("shop"), fixed("b"), fixed("c")],
            vec![fixed("d")],
        ];
        assert_eq!(described(&own, "shop"), expected);
    }

    #[test]
    fn without_labels_only_the_default_domain_is_described() {
        let none = Forwarding::default();
        assert_eq!(described(&none, "shop"), [[fixed("shop")]]);
        assert!(described(&none, "other").is_empty());
        assert!(described(&own("shop", &[]), "shop").is_empty());
        assert!(described(&own("else", &[(true, &["a"])]), "shop").is_empty());
    }

    #[test]
    fn a_group_without_any_label_is_left_out() {
        assert!(described(&own("shop", &[(false, &[])]), "shop").is_empty());
        assert_eq!(
            described(&own("shop", &[(true, &[])]), "shop"),
            [[fixed("shop")]]
        );
    }

    #[test]
    fn a_description_is_never_empty() {
        let header = |optional| RateLimitPart::Header {
            key: "key".to_owned(),
            header: "x".to_owned(),
            optional,
        };
        let both = never_empty(vec![header(true), header(true)]);
        assert_eq!(both, [header(false), header(true)]);
        let beside = vec![header(true), fixed("a")];
        assert_eq!(never_empty(beside.clone()), beside);
        assert_eq!(never_empty(Vec::new()), []);
    }
}
