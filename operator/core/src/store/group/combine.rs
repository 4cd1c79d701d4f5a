//! Settings that hold for a whole group of Mappings. Whichever of them says something says it for all; where two say
//! something else, the last by name wins, as in Emissary, and the others are told.

use std::collections::BTreeMap;

use nuncio_ir::{AddedHeader, Forward, Rewrite};

use super::share::Member;
use crate::reconcile::{Mapping, Shared};

/// What holds for all members.
pub(super) struct Common(Shared);

/// Tells a member that something of it is not served: path of the field, and the message.
type Tell<'a> = dyn FnMut(&Member<'_>, &str, String) + 'a;

/// Puts together what the members say.
pub(super) fn combine(members: &[&Member<'_>], tell: &mut Tell<'_>) -> Common {
    let retry_policy = last(members, "retry_policy", |shared| &shared.retry_policy, tell);
    let cors = last(members, "cors", |shared| &shared.cors, tell);
    let allow_upgrade = last(
        members,
        "allow_upgrade",
        |shared| &shared.allow_upgrade,
        tell,
    );
    let high_priority = last(members, "priority", |shared| &shared.high_priority, tell);
    let regex_rewrite = members
        .iter()
        .rev()
        .find_map(|member| member.mapping.shared.regex_rewrite.clone());
    let remove_request_headers = last(
        members,
        "remove_request_headers",
        |shared| &shared.remove_request_headers,
        tell,
    );
    let remove_response_headers = last(
        members,
        "remove_response_headers",
        |shared| &shared.remove_response_headers,
        tell,
    );
    let add_request_headers = union(
        members,
        "add_request_headers",
        |shared| &shared.add_request_headers,
        tell,
    );
    let add_response_headers = union(
        members,
        "add_response_headers",
        |shared| &shared.add_response_headers,
        tell,
    );
    Common(Shared {
        retry_policy,
        cors,
        allow_upgrade,
        high_priority,
        regex_rewrite,
        remove_request_headers,
        remove_response_headers,
        add_request_headers,
        add_response_headers,
    })
}

fn last<T: Clone + PartialEq>(
    members: &[&Member<'_>],
    field: &str,
    get: impl Fn(&Shared) -> &Option<T>,
    tell: &mut Tell<'_>,
) -> Option<T> {
    let saying = |member: &&&Member<'_>| get(&member.mapping.shared).is_some();
    let winner = members.iter().rfind(saying)?;
    let value = get(&winner.mapping.shared);
    for member in members.iter().filter(saying) {
        if get(&member.mapping.shared) != value {
            let path = format!("spec.{field}");
            tell(
                member,
                &path,
                format!(
                    "{field} holds for all Mappings with this match, and {} says something else; what the last by name says is served",
                    winner.object
                ),
            );
        }
    }
    value.clone()
}

fn union(
    members: &[&Member<'_>],
    field: &str,
    get: impl Fn(&Shared) -> &BTreeMap<String, AddedHeader>,
    tell: &mut Tell<'_>,
) -> BTreeMap<String, AddedHeader> {
    let mut all: BTreeMap<String, (&Member<'_>, &AddedHeader)> = BTreeMap::new();
    for member in members {
        for (name, header) in get(&member.mapping.shared) {
            let before = all.insert(name.clone(), (member, header));
            if let Some((before, other)) = before
                && other != header
            {
                let path = format!("spec.{field}[{name}]");
                tell(
                    before,
                    &path,
                    format!(
                        "headers are added for all Mappings with this match, and {} says something else of {name}; what the last by name says is served",
                        member.object
                    ),
                );
            }
        }
    }
    let all = all.into_iter();
    all.map(|(name, (_, header))| (name, header.clone()))
        .collect()
}

impl Common {
    /// What becomes of a member's share of requests.
    pub(super) fn forward(&self, mapping: &Mapping) -> Forward {
        let Self(common) = self;
        let mut forward = mapping.forward.clone();
        forward.rewrite = mapping
            .rewrite
            .clone()
            .or_else(|| common.regex_rewrite.clone())
            .unwrap_or_else(|| Rewrite::Prefix("/".to_owned()));
        forward.retry.clone_from(&common.retry_policy);
        forward.cors.clone_from(&common.cors);
        forward.upgrades = common.allow_upgrade.clone().unwrap_or_default();
        forward.high_priority = common.high_priority.unwrap_or_default();
        forward
            .request_headers
            .add
            .extend(common.add_request_headers.clone());
        forward
            .response_headers
            .add
            .extend(common.add_response_headers.clone());
        forward.request_headers.remove = common.remove_request_headers.clone().unwrap_or_default();
        forward.response_headers.remove =
            common.remove_response_headers.clone().unwrap_or_default();
        forward
    }
}
