//! Which replica writes status: the holder of a Lease.
//!
//! As in client-go, nobody's clock but our own counts: a Lease is over when we have not seen it change for its whole
//! duration. A leader that cannot renew steps down before another may step up.

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

const NAME: &str = "nuncio-leader";
const DURATION: Duration = Duration::from_secs(15);
const RENEW: Duration = Duration::from_secs(5);
/// A leader gives up when it has not been able to renew for so long.
const DEADLINE: Duration = Duration::from_secs(10);
const RETRY: Duration = Duration::from_secs(2);

/// Campaigns for ever. `leading` is true while this replica holds the Lease.
pub async fn campaign(
    client: Client,
    namespace: String,
    identity: String,
    leading: watch::Sender<bool>,
) {
    let mut candidate = Candidate {
        api: Api::namespaced(client, &namespace),
        identity,
        seen: None,
    };
    let mut renewed: Option<Instant> = None;
    loop {
        let asked = Instant::now();
        match tokio::time::timeout(RETRY * 2, candidate.acquire()).await {
            Ok(Ok(true)) => {
                if renewed.is_none() {
                    info!(identity = %candidate.identity, "this replica writes status");
                }
                renewed = Some(asked);
            }
            Ok(Ok(false)) => renewed = None,
            Ok(Err(error)) => {
                debug!(%error, "the Lease cannot be renewed");
            }
            Err(_elapsed) => debug!("the apiserver does not answer"),
        }
        if renewed.is_some_and(|renewed| renewed.elapsed() > DEADLINE) {
            warn!("the Lease could not be renewed: this replica does not write status any more");
            renewed = None;
        }
        leading.send_if_modified(|leading| {
            std::mem::replace(leading, renewed.is_some()) != renewed.is_some()
        });
        let pause = if renewed.is_some() && asked.elapsed() < RENEW {
            RENEW
        } else {
            RETRY
        };
        sleep(pause).await;
    }
}

/// Gives the Lease up, so that another replica need not wait for its end.
pub async fn resign(client: Client, namespace: &str, identity: &str) {
    let api: Api<Lease> = Api::namespaced(client, namespace);
    let Ok(Some(mut lease)) = api.get_opt(NAME).await else {
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
    if let Err(error) = api.replace(NAME, &PostParams::default(), &lease).await {
        debug!(%error, "the Lease cannot be given up; it will run out");
    }
}

struct Candidate {
    api: Api<Lease>,
    identity: String,
    /// The Lease as it was when it last changed, and when we saw that.
    seen: Option<(LeaseSpec, Instant)>,
}

impl Candidate {
    /// Takes or renews the Lease if it is ours or over; says whether it is ours now.
    async fn acquire(&mut self) -> Result<bool, kube::Error> {
        let Some(lease) = self.api.get_opt(NAME).await? else {
            let lease = Lease {
                metadata: ObjectMeta {
                    name: Some(NAME.to_owned()),
                    ..ObjectMeta::default()
                },
                spec: Some(self.renewed(None)),
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
        let held_by_other = spec
            .holder_identity
            .as_deref()
            .is_some_and(|holder| !holder.is_empty() && holder != self.identity);
        let duration = spec
            .lease_duration_seconds
            .and_then(|seconds| u64::try_from(seconds).ok())
            .map_or(DURATION, Duration::from_secs);
        if held_by_other && since.elapsed() < duration {
            return Ok(false);
        }
        let lease = Lease {
            spec: Some(self.renewed(Some(&spec))),
            ..lease
        };
        // the resource version in the metadata makes sure that nobody else was faster
        lost_race(self.api.replace(NAME, &PostParams::default(), &lease).await)
    }

    fn renewed(&self, old: Option<&LeaseSpec>) -> LeaseSpec {
        let now = MicroTime(Timestamp::now());
        let mine =
            old.is_some_and(|old| old.holder_identity.as_deref() == Some(self.identity.as_str()));
        let transitions = old
            .and_then(|old| old.lease_transitions)
            .unwrap_or_default();
        LeaseSpec {
            holder_identity: Some(self.identity.clone()),
            lease_duration_seconds: i32::try_from(DURATION.as_secs()).ok(),
            acquire_time: old
                .and_then(|old| old.acquire_time.clone())
                .filter(|_| mine)
                .or_else(|| Some(now.clone())),
            renew_time: Some(now),
            lease_transitions: Some(if mine {
                transitions
            } else {
                transitions.saturating_add(1)
            }),
            ..LeaseSpec::default()
        }
    }
}

fn lost_race(result: Result<Lease, kube::Error>) -> Result<bool, kube::Error> {
    match result {
        Ok(_) => Ok(true),
        Err(kube::Error::Api(status)) if status.code == 409 => Ok(false),
        Err(error) => Err(error),
    }
}
