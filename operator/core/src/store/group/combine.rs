//! Settings that apply to a whole group of Mappings, whichever of them sets them, and the forwarding of each member
//! that follows. Where two members set different values, the last by name wins, as in Emissary, and the others get a
//! problem. What no member sets comes from the defaults.

use std::{collections::BTreeMap, sync::Arc};

use nuncio_ir::{
    AddedHeader, Cors, Forward, HashPolicy, HeaderChanges, Mirror, RetryPolicy, Rewrite,
};

use super::{label, share::Member};
use crate::{
    defaults::Defaults,
    reconcile::{AddedHeaders, Mapping, Shared, Upstream, header_changes},
};

/// The header that Linkerd 1 routes by.
pub(in crate::store) const LINKERD: &str = "l5d-dst-override";

/// What applies to all members.
pub(super) struct Common<'a> {
    retry: Option<RetryPolicy>,
    cors: Option<Cors>,
    upgrades: Vec<String>,
    high_priority: bool,
    regex_rewrite: Option<Rewrite>,
    request_headers: HeaderChanges,
    response_headers: HeaderChanges,
    defaults: &'a Defaults,
    label_domain: Option<&'a str>,
}

/// Reports that a setting of a member is ignored: path of the field, and the message.
type Ignore<'a> = dyn FnMut(&Member<'_>, &str, String) + 'a;

/// Combines the settings of the members.
pub(super) fn combine<'a>(
    members: &[&Member<'_>],
    defaults: &'a Defaults,
    label_domain: Option<&'a str>,
    ignore: &mut Ignore<'_>,
) -> Common<'a> {
    let mut group = Group { members, ignore };
    Common {
        retry: group
            .last("retry_policy", |shared| &shared.retry_policy)
            .or_else(|| defaults.retry_policy.clone()),
        cors: group
            .last("cors", |shared| &shared.cors)
            .or_else(|| defaults.cors.clone()),
        upgrades: group
            .last("allow_upgrade", |shared| &shared.allow_upgrade)
            .unwrap_or_default(),
        high_priority: group
            .last("priority", |shared| &shared.high_priority)
            .unwrap_or_default(),
        regex_rewrite: members
            .iter()
            .rev()
            .find_map(|member| member.mapping.shared.regex_rewrite.clone()),
        request_headers: header_changes(
            group.all(
                "add_request_headers",
                defaults.mapping.add_request_headers.as_ref(),
                |shared| &shared.add_request_headers,
            ),
            group
                .last("remove_request_headers", |shared| {
                    &shared.remove_request_headers
                })
                .or_else(|| defaults.mapping.remove_request_headers.clone())
                .unwrap_or_default(),
        ),
        response_headers: header_changes(
            group.all(
                "add_response_headers",
                defaults.mapping.add_response_headers.as_ref(),
                |shared| &shared.add_response_headers,
            ),
            group
                .last("remove_response_headers", |shared| {
                    &shared.remove_response_headers
                })
                .or_else(|| defaults.mapping.remove_response_headers.clone())
                .unwrap_or_default(),
        ),
        defaults,
        label_domain,
    }
}

struct Group<'a, 'm, 'r> {
    members: &'a [&'a Member<'m>],
    ignore: &'a mut Ignore<'r>,
}

impl Group<'_, '_, '_> {
    /// The value of the last member that sets one.
    fn last<T: Clone + PartialEq>(
        &mut self,
        field: &str,
        get: impl Fn(&Shared) -> &Option<T>,
    ) -> Option<T> {
        let sets_one = |member: &&&Member<'_>| get(&member.mapping.shared).is_some();
        let winner = self.members.iter().rfind(sets_one)?;
        let value = get(&winner.mapping.shared);
        for member in self.members.iter().filter(sets_one) {
            if get(&member.mapping.shared) != value {
                let message = format!(
                    "{field} applies to all Mappings with the same match; using that of {}, the last by name",
                    winner.object
                );
                (self.ignore)(member, &format!("spec.{field}"), message);
            }
        }
        value.clone()
    }

    /// The added headers of all members; of one that sets none, the default ones.
    fn all(
        &mut self,
        field: &str,
        default: Option<&AddedHeaders>,
        get: impl Fn(&Shared) -> &Option<AddedHeaders>,
    ) -> AddedHeaders {
        let mut all: BTreeMap<&str, (&Member<'_>, &Option<AddedHeader>)> = BTreeMap::new();
        for member in self.members {
            let own = get(&member.mapping.shared).as_ref();
            for (name, header) in own.or(default).into_iter().flatten() {
                let earlier = all.insert(name, (member, header));
                if let Some((earlier, other)) = earlier
                    && other != header
                {
                    let message = format!(
                        "{field} applies to all Mappings with the same match; using {name} of {}, the last by name",
                        member.object
                    );
                    (self.ignore)(earlier, &format!("spec.{field}[{name}]"), message);
                }
            }
        }
        all.into_iter()
            .map(|(name, (_, header))| (name.to_owned(), header.clone()))
            .collect()
    }
}

impl Common<'_> {
    /// How the requests of a member are forwarded.
    pub(super) fn forward(
        &self,
        mapping: &Mapping,
        cluster: Arc<str>,
        mirrors: Vec<Mirror>,
    ) -> Forward {
        let own = &mapping.forwarding;
        let error_bodies = own.error_bodies.as_ref();
        Forward {
            cluster,
            rewrite: own
                .rewrite
                .clone()
                .or_else(|| self.regex_rewrite.clone())
                .unwrap_or_else(|| Rewrite::Prefix("/".to_owned())),
            host: own.host.clone(),
            timeout: own.timeout.unwrap_or(self.defaults.request_timeout),
            idle_timeout: own.idle_timeout,
            retry: self.retry.clone().map(Box::new),
            mirrors,
            hash: self.hash(mapping).map(Box::new),
            upgrades: self.upgrades.clone(),
            high_priority: self.high_priority,
            request_headers: self.request_headers(mapping),
            response_headers: self.response_headers.clone(),
            cors: self.cors.clone().map(Box::new),
            authorization: own.authorization.clone(),
            rate_limits: self.label_domain.map_or_else(Vec::new, |domain| {
                label::rate_limits(own, domain, self.defaults)
            }),
            error_bodies: error_bodies.unwrap_or(&self.defaults.error_bodies).clone(),
            keeps_error_bodies: error_bodies.is_some_and(BTreeMap::is_empty),
        }
    }

    /// What is hashed comes from the same place as the balancer.
    fn hash(&self, mapping: &Mapping) -> Option<HashPolicy> {
        let upstream = mapping.upstream.as_ref();
        if upstream.is_some_and(|upstream| upstream.settings.balancer.is_some()) {
            return mapping.forwarding.hash.clone();
        }
        self.defaults.load_balancer.as_ref()?.hash.clone()
    }

    fn request_headers(&self, mapping: &Mapping) -> HeaderChanges {
        let mut changes = self.request_headers.clone();
        let own = mapping.knative.request_headers.iter();
        changes
            .add
            .extend(own.map(|(name, header)| (name.clone(), header.clone())));
        let adds_linkerd = mapping.forwarding.add_linkerd_headers;
        if adds_linkerd.unwrap_or(self.defaults.add_linkerd_headers)
            && let Some(upstream) = &mapping.upstream
        {
            let upstream = upstream.in_namespace(self.defaults.uses_own_namespace);
            let header = || linkerd(&upstream);
            changes.add.entry(LINKERD.to_owned()).or_insert_with(header);
        }
        changes
    }
}

/// The address of the upstream, for Linkerd.
fn linkerd(upstream: &Upstream) -> AddedHeader {
    AddedHeader {
        value: linkerd_address(upstream),
        append: true,
    }
}

/// The address of an upstream as Linkerd expects it.
pub(in crate::store) fn linkerd_address(upstream: &Upstream) -> String {
    let host = &upstream.host;
    if host.contains(':') {
        format!("[{host}]:{}", upstream.port)
    } else {
        format!("{host}:{}", upstream.port)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use nuncio_ir::{Balancer, BodyFormat, ErrorBody, RateLimitPart};
    use serde_json::{Value, json};

    use super::*;
    use crate::{
        defaults::LoadBalancer,
        object::Kind,
        reconcile::{Fragment, reconcile},
        settings::Settings,
    };

    fn defaults() -> Defaults {
        let body = ErrorBody {
            format: BodyFormat::Text("sorry".to_owned()),
            content_type: None,
        };
        Defaults {
            request_timeout: Duration::from_secs(7),
            retry_policy: Some(RetryPolicy {
                on: "5xx".to_owned(),
                retries: Some(2),
                per_try_timeout: None,
            }),
            cors: Some(Cors::default()),
            add_linkerd_headers: true,
            error_bodies: BTreeMap::from([(503, body)]),
            label_domain: "shop".to_owned(),
            labels: BTreeMap::from([("shop".to_owned(), vec![RateLimitPart::RemoteAddress])]),
            load_balancer: Some(LoadBalancer {
                balancer: Balancer::RingHash,
                hash: Some(HashPolicy::SourceIp),
            }),
            ..Defaults::default()
        }
    }

    /// How a Mapping with these fields forwards, alone in its group.
    fn forward(fields: &Value) -> Forward {
        let mut spec = json!({"prefix": "/", "hostname": "*", "service": "s"});
        let fields = fields.as_object().unwrap();
        spec.as_object_mut().unwrap().extend(fields.clone());
        let value = json!({"metadata": {"name": "m", "namespace": "n"}, "spec": spec});
        let reconciled = reconcile(Kind::Mapping, value, &Settings::default());
        let Some(Fragment::Mapping(mapping)) = reconciled.fragment else {
            panic!("{:?}", reconciled.problems);
        };
        let member = Member {
            object: &reconciled.object,
            mapping: &mapping,
            cluster: None,
        };
        let defaults = defaults();
        let common = combine(
            &[&member],
            &defaults,
            Some("shop"),
            &mut |_, path, message| panic!("{path}: {message}"),
        );
        common.forward(&mapping, "c".into(), Vec::new())
    }

    #[test]
    fn defaults_apply_where_no_member_sets_anything() {
        let (forward, defaults) = (forward(&json!({})), defaults());
        assert_eq!(forward.timeout, defaults.request_timeout);
        assert_eq!(forward.retry.as_deref(), defaults.retry_policy.as_ref());
        assert_eq!(forward.cors.as_deref(), defaults.cors.as_ref());
        assert_eq!(forward.hash.as_deref(), Some(&HashPolicy::SourceIp));
        assert_eq!(forward.error_bodies, defaults.error_bodies);
        assert_eq!(forward.request_headers.add[LINKERD].value, "s.n:80");
        let [limit] = forward.rate_limits.as_slice() else {
            panic!("{:?}", forward.rate_limits);
        };
        assert_eq!(limit.parts, [RateLimitPart::RemoteAddress]);
    }

    #[test]
    fn what_a_member_sets_wins_over_the_defaults() {
        let forward = forward(&json!({
            "timeout_ms": 0,
            "retry_policy": {"retry_on": "connect-failure"},
            "cors": {"origins": ["https://a.example"]},
            "add_linkerd_headers": false,
            "load_balancer": {"policy": "round_robin"},
            "error_response_overrides": [{"on_status_code": 404, "body": {"text_format": "gone"}}],
            "labels": {"shop": [{"g": [{"source_cluster": {"key": "source_cluster"}}]}], "other": []},
        }));
        assert_eq!(forward.timeout, Duration::ZERO);
        assert_eq!(forward.retry.unwrap().on, "connect-failure");
        assert_eq!(forward.cors.unwrap().origins, ["https://a.example"]);
        assert_eq!(forward.hash, None);
        assert_eq!(forward.error_bodies.keys().collect::<Vec<_>>(), [&404]);
        assert!(forward.request_headers.add.is_empty());
        let [limit] = forward.rate_limits.as_slice() else {
            panic!("{:?}", forward.rate_limits);
        };
        assert_eq!(
            limit.parts,
            [RateLimitPart::RemoteAddress, RateLimitPart::SourceCluster]
        );
    }
}
