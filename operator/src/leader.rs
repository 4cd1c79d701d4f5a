//! Leader election: the replica that holds a Lease writes status.
//!
//! As in client-go, only the local clock counts: a Lease has expired when this replica has not seen it change for its
//! whole duration. A leader that cannot renew its Lease steps down before another replica may take it.

use std::time::{Duration, Instant};

use jiff::Timestamp;
use k8s_openapi::{
    api::coordination::v1::{Lease, LeaseSpec},
    apimachinery::pkg::apis::meta::v1::MicroTime,
};
use kube::{
    Api, Client,
    api::{ObjectMeta, PostParams},
};
use tokio::{sync::watch, time::sleep};
use tracing::{debug, info, warn};

use self::access::Access;

pub mod access;

const NAME: &str = "nuncio-leader";

/// Name of the Lease of an instance; of one with several ids, which are separated by commas, of all together. Instances with different ids may share a namespace but not a Lease: each writes the
/// status of its own objects.
#[must_use]
pub fn lease_name(ambassador_id: &str) -> String {
    if ambassador_id == "default" {
        NAME.to_owned()
    } else {
        format!("{NAME}-{}", short_name(ambassador_id))
    }
}

/// An ID, or several with commas, as a part of the name of an object.
pub(crate) fn short_name(ambassador_id: &str) -> String {
    let is_label = ambassador_id
        .bytes()
        .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-');
    if is_label && ambassador_id.len() <= 32 && !ambassador_id.ends_with('-') {
        ambassador_id.to_owned()
    } else {
        // not valid in the name of an object
        let hash = xxhash_rust::xxh3::xxh3_64(ambassador_id.as_bytes());
        format!("{hash:016x}")
    }
}

const DURATION: Duration = Duration::from_secs(15);
const RENEW: Duration = Duration::from_secs(5);
/// A leader that could not renew its Lease for this long steps down.
const DEADLINE: Duration = Duration::from_secs(10);
const RETRY: Duration = Duration::from_secs(2);

/// Takes and renews the Lease until the task is dropped. `leading` is true while this replica holds it.
pub async fn campaign(
    client: Client,
    namespace: String,
    name: String,
    identity: String,
    leading: watch::Sender<bool>,
    mut access: Access,
) {
    let mut candidate = Candidate {
        api: Api::namespaced(client, &namespace),
        name,
        identity,
        seen: None,
    };
    let mut renewed: Option<Instant> = None;
    loop {
        let started = Instant::now();
        let mut is_fresh = false;
        let result = tokio::time::timeout(RETRY, candidate.acquire()).await;
        if let Ok(Ok(_)) = &result {
            access.succeeded();
        }
        match result {
            Ok(Ok(true)) => {
                is_fresh = true;
                if renewed.is_none() {
                    info!(identity = %candidate.identity, "became leader");
                }
                renewed = Some(started);
            }
            Ok(Ok(false)) => {
                if renewed.take().is_some() {
                    warn!("lost leadership: another replica took the Lease");
                }
            }
            Ok(Err(error)) => access.request_failed(&error),
            Err(elapsed) => access.failed(false, &elapsed),
        }
        if renewed.is_some_and(|renewed| renewed.elapsed() > DEADLINE) {
            warn!("lost leadership: Lease not renewed in time");
            renewed = None;
        }
        leading.send_if_modified(|leading| {
            std::mem::replace(leading, renewed.is_some()) != renewed.is_some()
        });
        sleep(if is_fresh { RENEW } else { RETRY }).await;
    }
}

/// Releases the Lease, so that another replica does not wait until it expires.
pub async fn resign(client: Client, namespace: &str, name: &str, identity: &str) {
    let api: Api<Lease> = Api::namespaced(client, namespace);
    let Ok(Some(mut lease)) = api.get_opt(name).await else {
        return;
    };
    let Some(spec) = lease
        .spec
        .as_mut()
        .filter(|spec| spec.holder_identity.as_deref() == Some(identity))
    else {
        return;
    };
    spec.holder_identity = None;
    spec.lease_duration_seconds = Some(1);
    spec.renew_time = Some(MicroTime(Timestamp::now()));
    if let Err(error) = api.replace(name, &PostParams::default(), &lease).await {
        debug!(%error, "Lease not released; it expires by itself");
    }
}

struct Candidate {
    api: Api<Lease>,
    name: String,
    identity: String,
    /// The Lease as it last changed, and when this replica saw that.
    seen: Option<(LeaseSpec, Instant)>,
}

impl Candidate {
    /// Takes or renews the Lease if this replica holds it or it has expired; true if this replica holds it now.
    async fn acquire(&mut self) -> Result<bool, kube::Error> {
        let Some(lease) = self.api.get_opt(&self.name).await? else {
            let lease = Lease {
                metadata: ObjectMeta {
                    name: Some(self.name.clone()),
                    ..ObjectMeta::default()
                },
                spec: Some(renewed(&self.identity, None)),
            };
            return lost_race(self.api.create(&PostParams::default(), &lease).await);
        };
        let spec = lease.spec.clone().unwrap_or_default();
        let now = Instant::now();
        let since = match &self.seen {
            Some((seen, since)) if *seen == spec => *since,
            _ => {
                self.seen = Some((spec.clone(), now));
                now
            }
        };
        if !may_take(&spec, &self.identity, since.elapsed()) {
            return Ok(false);
        }
        let lease = Lease {
            spec: Some(renewed(&self.identity, Some(&spec))),
            ..lease
        };
        // the resource version makes the request fail if another replica was faster
        lost_race(
            self.api
                .replace(&self.name, &PostParams::default(), &lease)
                .await,
        )
    }
}

/// Whether a candidate may take or renew a Lease that has not changed for this long.
fn may_take(spec: &LeaseSpec, identity: &str, unchanged: Duration) -> bool {
    let is_held_by_other = spec
        .holder_identity
        .as_deref()
        .is_some_and(|holder| !holder.is_empty() && holder != identity);
    let duration = spec
        .lease_duration_seconds
        .and_then(|seconds| u64::try_from(seconds).ok())
        .map_or(DURATION, Duration::from_secs);
    !is_held_by_other || unchanged >= duration
}

/// The Lease, taken or renewed by `identity`.
fn renewed(identity: &str, old: Option<&LeaseSpec>) -> LeaseSpec {
    let now = MicroTime(Timestamp::now());
    let mine = old.filter(|old| old.holder_identity.as_deref() == Some(identity));
    let transitions = old
        .and_then(|old| old.lease_transitions)
        .unwrap_or_default();
    LeaseSpec {
        holder_identity: Some(identity.to_owned()),
        lease_duration_seconds: i32::try_from(DURATION.as_secs()).ok(),
        acquire_time: mine
            .and_then(|old| old.acquire_time.clone())
            .or_else(|| Some(now.clone())),
        renew_time: Some(now),
        lease_transitions: Some(match (old, mine) {
            (Some(_), None) => transitions.saturating_add(1),
            _ => transitions,
        }),
        ..LeaseSpec::default()
    }
}

fn lost_race(result: Result<Lease, kube::Error>) -> Result<bool, kube::Error> {
    match result {
        Ok(_) => Ok(true),
        Err(kube::Error::Api(status)) if status.code == 409 => Ok(false),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_instance_has_a_lease_of_its_own() {
        assert_eq!(lease_name("default"), "nuncio-leader");
        assert_eq!(lease_name("blue-2"), "nuncio-leader-blue-2");
        for odd in ["Blue", "a.b", "-", "\u{e4}", "a,b", &"x".repeat(300)] {
            let name = lease_name(odd);
            assert_eq!(name.len(), "nuncio-leader-".len() + 16, "{odd:?}: {name}");
        }
    }

    #[test]
    fn a_lease_of_another_is_left_alone_until_it_was_unchanged_for_its_duration() {
        let theirs = renewed("them", None);
        assert!(!may_take(
            &theirs,
            "us",
            DURATION - Duration::from_millis(1)
        ));
        assert!(may_take(&theirs, "us", DURATION));
        assert!(may_take(&theirs, "them", Duration::ZERO));
    }

    #[test]
    fn a_lease_that_was_given_up_is_free_at_once() {
        for holder in [None, Some(String::new())] {
            let free = LeaseSpec {
                holder_identity: holder,
                ..renewed("them", None)
            };
            assert!(may_take(&free, "us", Duration::ZERO));
        }
    }

    #[test]
    fn a_lease_without_a_duration_lasts_as_long_as_ours() {
        let odd = LeaseSpec {
            lease_duration_seconds: Some(-3),
            ..renewed("them", None)
        };
        assert!(!may_take(&odd, "us", DURATION / 2));
    }

    #[test]
    fn only_a_change_of_the_holder_counts_as_a_transition() {
        let first = renewed("us", None);
        let again = renewed("us", Some(&first));
        assert_eq!(again.lease_transitions, Some(0));
        assert_eq!(again.acquire_time, first.acquire_time);
        assert_eq!(renewed("them", Some(&again)).lease_transitions, Some(1));
    }
}
