//! How the members of a group share its requests: the routes of the group, and the problems of its members. Pure.
//!
//! Each member has its own route with a share of the requests, not a place among the weighted clusters of one route:
//! in a `WeightedCluster` of Envoy a backend has no prefix rewrite, timeout, retry policy or idle timeout of its own,
//! all of which the members of a group may have. And weights that add up to less than 100 leave the rest to less
//! specific routes, which weighted clusters cannot do.

use std::{
    cmp::Ordering,
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use nuncio_ir::{Action, Forward, Mirror, Origin, Route};

use super::{GroupKey, combine, label};
use crate::{
    defaults::Defaults,
    object::ObjectRef,
    reconcile::{Mapping, Role},
    report::{Problem, Reason},
    store::neighbour::{self, Neighbours},
};

/// A member with the cluster of its upstream.
pub(in crate::store) struct Member<'a> {
    pub(in crate::store) object: &'a ObjectRef,
    pub(in crate::store) mapping: &'a Mapping,
    /// `None` for a redirect.
    pub(in crate::store) cluster: Option<Arc<str>>,
}

/// How a Mapping forwards that is alone in its group.
pub(in crate::store) fn alone(
    object: &ObjectRef,
    mapping: &Mapping,
    cluster: Arc<str>,
    defaults: &Defaults,
    label_domain: Option<&str>,
) -> Forward {
    let member = Member {
        object,
        mapping,
        cluster: None,
    };
    let common = combine::combine(&[&member], defaults, label_domain, &mut |_, _, _| {});
    common.forward(mapping, cluster, Vec::new())
}

/// The routes of a group, and what its members report.
#[derive(Debug, Default)]
pub(in crate::store) struct Shared {
    /// In order.
    pub(in crate::store) routes: Vec<Arc<Route>>,
    pub(in crate::store) problems: BTreeMap<ObjectRef, Vec<Problem>>,
    /// Why members are not served. These problems have no outcome yet: it depends on other Hosts.
    pub(in crate::store) left_out: BTreeMap<ObjectRef, Problem>,
    /// Members that get no requests.
    pub(in crate::store) idle: BTreeSet<ObjectRef>,
}

impl Shared {
    fn report(&mut self, member: &Member<'_>, problem: Problem) {
        self.problems
            .entry(member.object.clone())
            .or_default()
            .push(problem);
    }

    /// Members of several namespaces share requests, or one has those of another.
    fn report_neighbours(&mut self, members: &[Member<'_>], has_errors: bool) {
        let is_served = |member: &&Member<'_>| {
            let is_invalid = member.mapping.role == Role::Invalid;
            !self.idle.contains(member.object) || is_invalid && has_errors
        };
        let served = members.iter().filter(is_served);
        let served = Neighbours::of(served.map(|member| member.object));
        let all = Neighbours::of(members.iter().map(|member| member.object));
        for member in members {
            let (other, fact) = match served.of_another_namespace(member.object) {
                Some(other) => (Some(other), "has the same match and gets requests"),
                None => (
                    all.of_another_namespace(member.object),
                    "has the same match and gets no requests",
                ),
            };
            if let Some(other) = other {
                self.report(member, neighbour::notice("spec.prefix", other, fact));
            }
        }
    }

    /// The share of the invalid members, which gets 503: what the others leave, but not more than their own weights. Their
    /// mistake must not send requests to a less specific route; weights that leave some still do. Returns whether there is one.
    fn unavailable(
        &mut self,
        key: &GroupKey,
        roles: &Roles<'_, '_>,
        served: u32,
        condition: &dyn Fn(&mut Route),
    ) -> bool {
        let Some(first) = roles.invalid.first() else {
            return false;
        };
        let is_lone = roles.are_invalid() && roles.invalid.len() == 1;
        let weights = roles.invalid.iter().map(|member| member.mapping.weight);
        let own: Option<u32> = weights
            .map(|weight| weight.map(|weight| weight.min(100)))
            .sum();
        let own = own.filter(|_| !is_lone).unwrap_or(100);
        let end = served.saturating_add(own).min(100);
        if end <= served {
            return false;
        }
        let mut route = Route::new(route_name(first), key.path.clone(), Action::Unavailable);
        condition(&mut route);
        route.origin = Some(first.object.origin());
        route.group = group(&roles.invalid, None);
        route.percentage = (end < 100).then_some(end);
        self.routes.push(Arc::new(route));
        let message = if end - served == 100 {
            "requests that this Mapping matches get 503 until it is fixed".to_owned()
        } else {
            format!(
                "{} % of the requests that this Mapping matches get 503 until it is fixed",
                end - served
            )
        };
        for member in &roles.invalid {
            self.report(member, Problem::notice(Reason::UNAVAILABLE, "", &message));
        }
        true
    }

    /// A member that is not served because another comes first.
    fn not_served(&mut self, member: &Member<'_>, path: &str, fact: &str) {
        let problem = Problem::ignored(Reason::GROUP_CONFLICT, path, fact);
        self.left_out.insert(member.object.clone(), problem);
        self.idle.insert(member.object.clone());
    }
}

/// What the members of a group do. Members that cannot join have no role.
struct Roles<'a, 'b> {
    redirect: Option<&'a Member<'b>>,
    forwarding: Vec<&'a Member<'b>>,
    shadow: Option<&'a Member<'b>>,
    invalid: Vec<&'a Member<'b>>,
}

impl<'a, 'b> Roles<'a, 'b> {
    /// The first member that is neither a shadow nor invalid decides whether the group redirects.
    fn of(members: &'a [Member<'b>], shared: &mut Shared) -> Self {
        let of_role = |role: Role| {
            members
                .iter()
                .filter(move |member| member.mapping.role == role)
        };
        let mut roles = Self {
            redirect: None,
            forwarding: Vec::new(),
            shadow: shadow(of_role(Role::Shadow), shared),
            invalid: of_role(Role::Invalid).collect(),
        };
        for member in members {
            match (
                &member.mapping.role,
                roles.redirect,
                roles.forwarding.first(),
            ) {
                (Role::Shadow | Role::Invalid, _, _) => {}
                (Role::Redirect(_), None, None) => roles.redirect = Some(member),
                (Role::Forward, None, _) => roles.forwarding.push(member),
                (_, Some(first), _) => {
                    let fact = redirects_first(first);
                    shared.not_served(member, "spec.prefix", &fact);
                }
                (Role::Redirect(_), None, Some(first)) => {
                    let fact = format!(
                        "{} has the same match, comes first by name and forwards requests",
                        first.object
                    );
                    shared.not_served(member, "spec.host_redirect", &fact);
                }
            }
        }
        roles
    }

    /// Whether no member has requests but invalid ones.
    fn are_invalid(&self) -> bool {
        self.redirect.is_none() && self.forwarding.is_empty()
    }
}

fn redirects_first(first: &Member<'_>) -> String {
    format!(
        "{} has the same match, comes first by name and redirects",
        first.object
    )
}

/// Shares the requests of a group.
pub(in crate::store) fn share(
    key: &GroupKey,
    members: &[Member<'_>],
    defaults: &Defaults,
    label_domain: Option<&str>,
) -> Shared {
    let mut shared = Shared::default();
    let mut roles = Roles::of(members, &mut shared);
    let case_sensitive = case_sensitive(members, &mut shared);
    let condition = |route: &mut Route| {
        route.case_sensitive = case_sensitive;
        route.headers.clone_from(&key.headers);
        route.authority = key.authority();
        route.query.clone_from(&key.query);
    };
    let invalid = roles.invalid.iter();
    shared
        .idle
        .extend(invalid.map(|member| member.object.clone()));
    // a shadow joins a group that redirects, and gets nothing
    if let Some(first) = roles.redirect
        && let Some(shadow) = roles.shadow.take()
    {
        shared.not_served(shadow, "spec.shadow", &redirects_first(first));
    }
    if roles.are_invalid()
        && let Some(shadow) = roles.shadow.take()
    {
        shared.idle.insert(shadow.object.clone());
        shared.report(
            shadow,
            Problem::ignored(
                Reason::NOTHING_TO_SHADOW,
                "spec.shadow",
                "no other Mapping has the same match; no requests are copied",
            ),
        );
    }
    let served = if let Some(first) = roles.redirect
        && let Role::Redirect(redirect) = &first.mapping.role
    {
        let name = route_name(first);
        let mut route = Route::new(name, key.path.clone(), Action::Redirect(redirect.clone()));
        condition(&mut route);
        route.origin = Some(first.object.origin());
        shared.routes.push(Arc::new(route));
        100
    } else {
        let members = &roles.forwarding;
        let defaults = (defaults, label_domain);
        forward(
            key,
            members,
            roles.shadow,
            defaults,
            &condition,
            &mut shared,
        )
    };
    let has_errors = shared.unavailable(key, &roles, served, &condition);
    shared.report_neighbours(members, has_errors);
    shared
}

/// The shadow of a group: the first by name.
fn shadow<'a, 'b: 'a>(
    mut shadows: impl Iterator<Item = &'a Member<'b>>,
    shared: &mut Shared,
) -> Option<&'a Member<'b>> {
    let first = shadows.next()?;
    for member in shadows {
        let fact = format!(
            "{} is a shadow with the same match and comes first by name",
            first.object
        );
        shared.not_served(member, "spec.shadow", &fact);
    }
    Some(first)
}

/// Returns the percentage of the requests that the members get.
fn forward(
    key: &GroupKey,
    members: &[&Member<'_>],
    shadow: Option<&Member<'_>>,
    (defaults, label_domain): (&Defaults, Option<&str>),
    condition: &dyn Fn(&mut Route),
    shared: &mut Shared,
) -> u32 {
    let weights: Vec<Option<u32>> = members.iter().map(|member| member.mapping.weight).collect();
    let shares = shares(&weights);
    let mut ignore = |member: &Member<'_>, path: &str, message| {
        let problem = Problem::ignored(Reason::GROUP_CONFLICT, path, message);
        shared.report(member, problem);
    };
    let common = combine::combine(members, defaults, label_domain, &mut ignore);
    label::problems(members, label_domain, &mut |member, problem| {
        shared.report(member, problem);
    });
    let mirrors: Vec<Mirror> = shadow
        .and_then(|shadow| {
            Some(Mirror {
                cluster: shadow.cluster.clone()?,
                percentage: shadow.mapping.weight.unwrap_or(100).min(100),
                origin: shadow.object.origin(),
            })
        })
        .into_iter()
        .collect();
    for (index, member) in members.iter().enumerate() {
        if let Some(sum) = shares.over {
            shared.report(member, too_much_weight(members.len(), sum));
        }
        if !shares.percentages.iter().any(|(found, _)| *found == index) {
            shared.idle.insert(member.object.clone());
            shared.report(member, no_share());
        }
    }
    let served = shares.percentages.last().map_or(0, |(_, served)| *served);
    let group = group(members, shadow);
    for (index, percentage) in shares.percentages {
        let member = members[index];
        let Some(cluster) = member.cluster.clone() else {
            continue;
        };
        let forward = common.forward(member.mapping, cluster, mirrors.clone());
        let action = Action::Forward(forward.into());
        let mut route = Route::new(route_name(member), key.path.clone(), action);
        condition(&mut route);
        route.origin = Some(member.object.origin());
        route.group = group.clone();
        route.percentage = (percentage < 100).then_some(percentage);
        shared.routes.push(Arc::new(route));
    }
    served
}

/// The origins of members that share requests; none of one that is alone.
fn group(members: &[&Member<'_>], shadow: Option<&Member<'_>>) -> Arc<[Origin]> {
    if members.len() + usize::from(shadow.is_some()) < 2 {
        return Arc::default();
    }
    let all = members.iter().copied().chain(shadow);
    all.map(|member| member.object.origin()).collect()
}

fn too_much_weight(members: usize, sum: u64) -> Problem {
    Problem::ignored(
        Reason::WEIGHTS_EXCEED_HUNDRED,
        "spec.weight",
        format!(
            "the weights of the {members} Mappings with the same match add up to {sum}, not 100; requests are shared in proportion"
        ),
    )
}

fn no_share() -> Problem {
    Problem::notice(
        Reason::NO_SHARE,
        "spec.weight",
        "no requests are left for this Mapping: its weight is 0, or the weights of others add up to 100",
    )
}

fn route_name(member: &Member<'_>) -> String {
    format!("{}/{}", member.object.namespace, member.object.name)
}

/// Whether the path is compared case-sensitively: as the first member that sets it says. One that cannot join the group
/// does not count.
fn case_sensitive(members: &[Member<'_>], shared: &mut Shared) -> bool {
    let setting = |member: &Member<'_>| member.mapping.case_sensitive;
    let joined = |member: &&Member<'_>| !shared.idle.contains(member.object);
    let members: Vec<&Member<'_>> = members.iter().filter(joined).collect();
    let Some((first, value)) = members
        .iter()
        .find_map(|member| Some((*member, setting(member)?)))
    else {
        return true;
    };
    for member in members {
        if setting(member).is_some_and(|other| other != value) {
            let message = format!(
                "case_sensitive applies to all Mappings with the same match; using that of {}, the first by name",
                first.object
            );
            let path = "spec.case_sensitive";
            shared.report(
                member,
                Problem::ignored(Reason::GROUP_CONFLICT, path, message),
            );
        }
    }
    value
}

/// The shares of the members of a group.
#[derive(Debug, PartialEq, Eq)]
struct Shares {
    /// Index of a member, and the cumulated percentage up to and including its share: its route takes the requests
    /// whose random number is below that, and leaves the others to the next.
    percentages: Vec<(usize, u32)>,
    /// Sum of the weights, if it is above 100.
    over: Option<u64>,
}

/// Members with a weight come first and get it; the others share what is left. A lone member gets everything.
/// Weights that add up to less than 100, with no member to share the rest, leave it to less specific routes. Envoy
/// draws one random number per request, so that cumulated percentages give each member its share.
fn shares(weights: &[Option<u32>]) -> Shares {
    if weights.len() == 1 {
        return Shares {
            percentages: vec![(0, 100)],
            over: None,
        };
    }
    let sum: u64 = weights
        .iter()
        .flatten()
        .map(|weight| u64::from(*weight))
        .sum();
    let over = (sum > 100).then_some(sum);
    let scale = |cumulated: u64| -> u32 {
        let percentage = if over.is_some() {
            cumulated * 100 / sum
        } else {
            cumulated
        };
        u32::try_from(percentage).unwrap_or(100).min(100)
    };
    let mut percentages = Vec::new();
    let mut cumulated = 0;
    for (index, weight) in weights.iter().enumerate() {
        if let Some(weight) = weight {
            cumulated += u64::from(*weight);
            percentages.push((index, scale(cumulated)));
        }
    }
    let rest: Vec<usize> = (0..weights.len())
        .filter(|index| weights[*index].is_none())
        .collect();
    let left = 100_u64.saturating_sub(cumulated);
    for (position, index) in rest.iter().enumerate() {
        let last = position + 1 == rest.len();
        let share = round_half_even(left, rest.len() as u64) * (position as u64 + 1);
        percentages.push((*index, if last { 100 } else { scale(cumulated + share) }));
    }
    // a route after a full share is never reached, and an empty share needs no route
    let mut covered = 0;
    percentages.retain(|(_, percentage)| {
        let keep = *percentage > covered;
        covered = covered.max(*percentage);
        keep
    });
    Shares { percentages, over }
}

fn round_half_even(numerator: u64, denominator: u64) -> u64 {
    let (quotient, remainder) = (numerator / denominator, numerator % denominator);
    match (remainder * 2).cmp(&denominator) {
        Ordering::Less => quotient,
        Ordering::Greater => quotient + 1,
        Ordering::Equal => quotient + quotient % 2,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn percentages(weights: &[Option<u32>]) -> Vec<(usize, u32)> {
        shares(weights).percentages
    }

    #[test]
    fn members_without_weight_share_what_is_left() {
        assert_eq!(percentages(&[Some(10), None]), [(0, 10), (1, 100)]);
        assert_eq!(percentages(&[None, Some(10)]), [(1, 10), (0, 100)]);
        assert_eq!(
            percentages(&[Some(10), Some(40), None]),
            [(0, 10), (1, 50), (2, 100)]
        );
        assert_eq!(
            percentages(&[None, None, None]),
            [(0, 33), (1, 66), (2, 100)]
        );
        assert_eq!(
            percentages(&[Some(75), None, None]),
            [(0, 75), (1, 87), (2, 100)]
        );
    }

    #[test]
    fn weights_below_a_hundred_leave_the_rest_to_others() {
        assert_eq!(percentages(&[Some(10), Some(20)]), [(0, 10), (1, 30)]);
    }

    #[test]
    fn a_lone_member_gets_everything_whatever_its_weight() {
        assert_eq!(percentages(&[Some(0)]), [(0, 100)]);
        assert_eq!(percentages(&[Some(130)]), [(0, 100)]);
    }

    #[test]
    fn no_share_needs_no_route() {
        assert_eq!(percentages(&[Some(0), None]), [(1, 100)]);
        assert_eq!(percentages(&[Some(100), None]), [(0, 100)]);
        assert_eq!(percentages(&[Some(0), Some(0)]), []);
    }

    #[test]
    fn weights_above_a_hundred_are_shares_in_proportion() {
        let shares = shares(&[Some(60), Some(140), None]);
        assert_eq!(shares.percentages, [(0, 30), (1, 100)]);
        assert_eq!(shares.over, Some(200));
        assert_eq!(
            percentages(&[Some(u32::MAX), Some(u32::MAX)]),
            [(0, 50), (1, 100)]
        );
    }
}
