//! Envoys of other replicas: each replica serves its own, but the leader, which writes status, counts all of them.
//!
//! Every replica keeps a Lease of its own with the Envoys that are connected to it and the digest of the snapshot that
//! each of them acknowledged last ([`announce`]). Equal snapshots have equal digests on every replica, so the leader
//! finds the number of its own snapshot by the digest ([`follow`]). An unknown digest is of a snapshot that the leader
//! has not built yet or has skipped: the last known number of that Envoy is kept. Replicas of another version or with
//! other settings build other snapshots; their Envoys cannot be compared and are not counted.
//!
//! A replica that serves several fleets has a Lease for each, with the ID of the fleet: what happens in one fleet does not
//! count in another, even where resources are equal.
//!
//! The Lease says as well what these Envoys reject, because what one of them rejects no replica serves ([`Quarantine`]).
//!
//! [`Quarantine`]: nuncio_xds::quarantine::Quarantine
//!
//! As in leader election, only the local clock counts: a replica is gone when its Lease has not changed for its whole
//! duration.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
    time::{Duration, Instant},
};

use futures::future::select_all;
use jiff::Timestamp;
use k8s_openapi::{
    api::coordination::v1::{Lease, LeaseSpec},
    apimachinery::pkg::apis::meta::v1::MicroTime,
};
use kube::{
    Api, Client,
    api::{DeleteParams, ObjectMeta, Patch, PatchParams},
    runtime::watcher::Event,
};
use nuncio_xds::{
    ResourceType, Version,
    cache::SnapshotCache,
    fleet::{AckedCounts, Fleet, FleetState, Rejection},
    ir::EnvoyVersion,
    quarantine::Elsewhere,
    snapshot::Snapshot,
};
use serde::{Deserialize, Serialize};
use tokio::{
    sync::watch,
    time::{sleep, sleep_until},
};
use tracing::debug;

use super::{Book, fleet::Acknowledged};
use crate::{
    leader::{self, access::Access},
    printable::shortened,
    watch::events::{self, Events},
};
use nuncio_core::settings::{Fleets, Settings};

/// Label of the Leases of replicas.
const LABEL: (&str, &str) = ("app.kubernetes.io/component", "nuncio-replica");
/// Annotation with the [`Announcement`].
const ANNOTATION: &str = "nuncio/envoys";
const DURATION: Duration = Duration::from_secs(30);
const RENEW: Duration = Duration::from_secs(10);
/// Shortest time between two announcements.
const INTERVAL: Duration = Duration::from_secs(1);
/// Acknowledgements of several Envoys that follow each other within this time are announced together.
const GATHER: Duration = Duration::from_millis(30);
/// Shortest time between two counts, so that a fleet that acknowledges a snapshot is counted a few times only.
const COUNT: Duration = Duration::from_millis(10);
/// A Lease that has not changed for this long is deleted: its replica did not stop cleanly.
const ABANDONED: Duration = Duration::from_secs(600);
/// Rejected resources that are announced; others have to be rejected by Envoys of each replica.
const REJECTIONS: usize = 16;
/// Longest announced message of an Envoy, in bytes.
const MESSAGE: usize = 512;
/// Snapshots whose digests are kept.
const SNAPSHOTS: usize = 4096;

/// This replica, as it announces its Envoys.
#[derive(Clone)]
pub struct Replica {
    api: Api<Lease>,
    name: String,
    instance: String,
    /// ID of the fleet, if there are several.
    fleet: Option<String>,
}

/// The Envoys of a replica.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Announcement {
    /// Version and settings of the replica.
    instance: String,
    /// ID of their fleet, if the replica has several.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    fleet: Option<String>,
    /// By node ID, the hexadecimal digest of the last snapshot that the Envoy acknowledged completely, if any.
    envoys: BTreeMap<String, Option<String>>,
    /// The oldest version of one of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    oldest: Option<String>,
    /// What they reject.
    #[serde(default)]
    rejected: Vec<Rejected>,
}

/// A resource that Envoys of a replica reject.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Rejected {
    r#type: String,
    name: String,
    version: String,
    message: String,
}

impl Rejected {
    fn of(rejection: &Rejection) -> Self {
        Self {
            r#type: rejection.kind.type_url().to_owned(),
            name: rejection.name.to_string(),
            version: rejection.version.to_string(),
            message: shortened(rejection.message.to_string(), MESSAGE),
        }
    }

    fn read(&self) -> Option<Rejection> {
        Some(Rejection {
            kind: ResourceType::from_type_url(&self.r#type)?,
            name: self.name.as_str().into(),
            version: Version::parse(&self.version)?,
            message: self.message.as_str().into(),
            envoys: 1,
        })
    }
}

impl Replica {
    /// The replica with this identity, which must be unique.
    #[must_use]
    pub fn new(client: Client, settings: &Settings, identity: &str) -> Self {
        Self {
            api: Api::namespaced(client, &settings.ambassador_namespace),
            name: lease_name(identity),
            instance: instance(settings),
            fleet: None,
        }
    }

    /// The same for each of these fleets.
    #[must_use]
    pub fn of_fleets(client: &Client, fleets: &Fleets, identity: &str) -> Vec<Self> {
        let several = fleets.are_several();
        let of = |fleet: &Settings| {
            let id = &fleet.ambassador_id;
            let identity = match several {
                false => identity.to_owned(),
                true => format!("{identity}-{}", leader::short_name(id)),
            };
            Self {
                fleet: several.then(|| id.clone()),
                ..Self::new(client.clone(), fleet, &identity)
            }
        };
        fleets.iter().map(of).collect()
    }

    /// Deletes the Lease, so that the leader does not wait until it expires.
    pub async fn withdraw(&self) {
        let result = self.api.delete(&self.name, &DeleteParams::default()).await;
        if let Err(error) = result {
            debug!(%error, "replica Lease not deleted; it expires by itself");
        }
    }

    async fn write(&self, announcement: &Announcement) -> Result<(), kube::Error> {
        let text = serde_json::to_string(announcement).map_err(kube::Error::SerdeError)?;
        let lease = Lease {
            metadata: ObjectMeta {
                name: Some(self.name.clone()),
                labels: Some([(LABEL.0.to_owned(), LABEL.1.to_owned())].into()),
                annotations: Some([(ANNOTATION.to_owned(), text)].into()),
                ..ObjectMeta::default()
            },
            spec: Some(LeaseSpec {
                holder_identity: Some(self.name.clone()),
                lease_duration_seconds: i32::try_from(DURATION.as_secs()).ok(),
                renew_time: Some(MicroTime(Timestamp::now())),
                ..LeaseSpec::default()
            }),
        };
        let parameters = PatchParams::apply("nuncio").force();
        self.api
            .patch(&self.name, &parameters, &Patch::Apply(&lease))
            .await?;
        Ok(())
    }
}

/// Announces the Envoys of this replica until the task is dropped.
pub async fn announce(
    replica: Replica,
    fleet: Fleet,
    mut rejections: watch::Receiver<Vec<Rejection>>,
    mut access: Access,
) {
    let mut changes = fleet.subscribe_acknowledged();
    let mut announcement = Announcement {
        instance: replica.instance.clone(),
        fleet: replica.fleet.clone(),
        ..Announcement::default()
    };
    loop {
        changes.borrow_and_update();
        announcement.envoys = envoys(&announcement.envoys, &fleet.state());
        announcement.oldest = oldest(&fleet);
        announcement.rejected = rejected(&rejections.borrow_and_update());
        let written = announcement.clone();
        let started = tokio::time::Instant::now();
        match replica.write(&written).await {
            Ok(()) => access.succeeded(),
            Err(error) => {
                access.request_failed(&error);
                sleep(INTERVAL).await;
                continue;
            }
        }
        while announcement == written {
            tokio::select! {
                changed = changes.changed() => if changed.is_err() {
                    return;
                },
                changed = rejections.changed() => if changed.is_err() {
                    return;
                },
                () = sleep_until(started + RENEW) => break,
            }
            announcement.envoys = envoys(&announcement.envoys, &fleet.state());
            announcement.oldest = oldest(&fleet);
            announcement.rejected = rejected(&rejections.borrow_and_update());
        }
        sleep(GATHER).await;
        sleep_until(started + INTERVAL).await;
    }
}

fn oldest(fleet: &Fleet) -> Option<String> {
    let oldest = *fleet.subscribe_oldest().borrow();
    oldest.map(|version| version.to_string())
}

fn rejected(rejections: &[Rejection]) -> Vec<Rejected> {
    let first = rejections.iter().take(REJECTIONS);
    first.map(Rejected::of).collect()
}

/// The connected Envoys, each with the last snapshot that it acknowledged completely.
fn envoys(
    before: &BTreeMap<String, Option<String>>,
    fleet: &FleetState,
) -> BTreeMap<String, Option<String>> {
    let mut envoys: BTreeMap<String, Option<String>> = BTreeMap::new();
    let mut same = 1;
    let mut node = "";
    for envoy in &fleet.envoys {
        same = if envoy.node == node { same + 1 } else { 1 };
        node = &envoy.node;
        // those with the same node id are listed each
        let key = match same {
            1 => node.to_owned(),
            _ => format!("{node} ({same})"),
        };
        let digest = envoy.digest.map(|digest| format!("{digest:032x}"));
        let last = || before.get(&key).cloned().flatten();
        let digest = digest.or_else(last);
        envoys.insert(key, digest);
    }
    envoys
}

/// A fleet of this replica, as [`follow`] counts its Envoys.
pub struct Member {
    /// How it is announced.
    pub replica: Replica,
    /// Its configuration.
    pub snapshots: SnapshotCache,
    /// The Envoys that are connected to this replica.
    pub fleet: Fleet,
    /// Where counts go.
    pub book: Book,
    /// Where goes what Envoys of other replicas reject.
    pub elsewhere: watch::Sender<Elsewhere>,
}

/// A member while it is counted.
struct Counting {
    member: Member,
    census: Census,
    fleet_changes: watch::Receiver<u64>,
    snapshot_changes: watch::Receiver<Option<Arc<Snapshot>>>,
}

impl Counting {
    fn new(member: Member) -> Self {
        Self {
            census: Census::new(&member.replica),
            fleet_changes: member.fleet.subscribe_acknowledged(),
            snapshot_changes: member.snapshots.subscribe(),
            member,
        }
    }

    /// Waits for a snapshot or an acknowledgement; false if there will be none.
    async fn changed(&mut self) -> bool {
        tokio::select! {
            changed = self.fleet_changes.changed() => changed.is_ok(),
            changed = self.snapshot_changes.changed() => changed.is_ok(),
        }
    }

    /// Passes on what its Envoys have acknowledged and rejected.
    fn count(&mut self) {
        let (census, member) = (&mut self.census, &self.member);
        self.fleet_changes.borrow_and_update();
        if let Some(snapshot) = self.snapshot_changes.borrow_and_update().as_deref() {
            census.snapshot(snapshot.seq, snapshot.digest());
        }
        let is_local = |node: &str| member.fleet.has_node(node);
        let now = Instant::now();
        let acknowledged = census.count(member.fleet.acked_counts(), is_local, now);
        member.book.acknowledge(acknowledged);
        let heard = census.elsewhere(is_local, now);
        member.elsewhere.send_if_modified(|known| {
            let differs = *known != heard;
            *known = heard;
            differs
        });
    }
}

/// Passes what all Envoys of each fleet, also those of other replicas, have acknowledged to its book, and what those reject to
/// `elsewhere`. One watch of Leases is for all fleets.
pub async fn follow(client: Client, settings: Settings, members: Vec<Member>, mut access: Access) {
    let api: Api<Lease> = Api::namespaced(client, &settings.ambassador_namespace);
    let selector = format!("{}={}", LABEL.0, LABEL.1);
    let config = events::config().labels(&selector);
    let mut leases = Events::new(api.clone(), config);
    let mut fleets: Vec<Counting> = members.into_iter().map(Counting::new).collect();
    let mut listing = Vec::new();
    loop {
        let changed = select_all(fleets.iter_mut().map(|fleet| Box::pin(fleet.changed())));
        let event = tokio::select! {
            event = leases.next() => Some(event),
            (changed, ..) = changed => {
                if !changed {
                    return;
                }
                None
            }
            // a replica that is gone causes no event
            () = sleep(RENEW) => None,
        };
        if matches!(event, Some(Ok(Event::InitDone | Event::Apply(_)))) {
            access.succeeded();
        }
        let censuses = fleets.iter_mut().map(|fleet| &mut fleet.census);
        let now = Instant::now();
        match event {
            Some(Ok(Event::Init)) => listing.clear(),
            Some(Ok(Event::InitApply(lease))) => listing.push(lease),
            Some(Ok(Event::InitDone)) => {
                for census in censuses {
                    census.keep_only(&listing);
                    for lease in &listing {
                        census.lease(lease, now);
                    }
                }
                listing.clear();
            }
            Some(Ok(Event::Apply(lease))) => censuses.for_each(|census| census.lease(&lease, now)),
            Some(Ok(Event::Delete(lease))) => {
                censuses.for_each(|census| census.forget(&name(&lease)));
            }
            Some(Err(error)) => access.failed(events::is_forbidden(&error), &error),
            None => {}
        }
        for fleet in &mut fleets {
            fleet.count();
        }
        // every fleet knows the same Leases
        let abandoned = fleets.first().map(|fleet| fleet.census.abandoned(now));
        for abandoned in abandoned.unwrap_or_default() {
            let _ = api.delete(&abandoned, &DeleteParams::default()).await;
        }
        sleep(COUNT).await;
    }
}

/// The Envoys of all replicas.
struct Census {
    /// Name of this replica's Lease.
    own: String,
    instance: String,
    /// ID of the fleet, if there are several.
    fleet: Option<String>,
    /// Number of the newest snapshot of each digest.
    numbers: BTreeMap<u128, u64>,
    /// The same pairs, oldest first.
    order: VecDeque<(u64, u128)>,
    others: BTreeMap<String, Other>,
}

/// Another replica.
struct Other {
    /// When its Lease last changed.
    seen: Instant,
    digests: BTreeMap<String, Option<u128>>,
    /// The last known snapshot of each of its Envoys.
    acked: BTreeMap<String, u64>,
    rejections: Vec<Rejection>,
    oldest: Option<EnvoyVersion>,
}

impl Census {
    fn new(replica: &Replica) -> Self {
        Self {
            own: replica.name.clone(),
            instance: replica.instance.clone(),
            fleet: replica.fleet.clone(),
            numbers: BTreeMap::new(),
            order: VecDeque::new(),
            others: BTreeMap::new(),
        }
    }

    /// Adds a snapshot of this replica.
    fn snapshot(&mut self, number: u64, digest: u128) {
        if self.numbers.insert(digest, number) == Some(number) {
            return;
        }
        self.order.push_back((number, digest));
        if self.order.len() > SNAPSHOTS
            && let Some((number, digest)) = self.order.pop_front()
            && self.numbers.get(&digest) == Some(&number)
        {
            self.numbers.remove(&digest);
        }
    }

    fn lease(&mut self, lease: &Lease, now: Instant) {
        let name = name(lease);
        if name == self.own {
            return;
        }
        let announcement = lease
            .metadata
            .annotations
            .as_ref()
            .and_then(|annotations| serde_json::from_str(annotations.get(ANNOTATION)?).ok());
        self.announcement(name, announcement.unwrap_or_default(), now);
    }

    fn announcement(&mut self, name: String, announcement: Announcement, now: Instant) {
        let other = self.others.entry(name).or_insert_with(|| Other {
            seen: now,
            digests: BTreeMap::new(),
            acked: BTreeMap::new(),
            rejections: Vec::new(),
            oldest: None,
        });
        other.seen = now;
        // a version is that of a content, whoever made it; but another fleet is another matter
        let is_other = match (&announcement.fleet, &self.fleet) {
            (Some(theirs), Some(own)) => theirs != own,
            (None, _) | (_, None) => false,
        };
        let rejections = announcement.rejected.iter().filter(|_| !is_other);
        other.rejections = rejections.filter_map(Rejected::read).collect();
        let oldest = announcement.oldest.as_deref().filter(|_| !is_other);
        other.oldest = oldest.and_then(|text| text.parse().ok());
        other.digests = if announcement.instance == self.instance {
            let digest = |text: Option<String>| u128::from_str_radix(&text?, 16).ok();
            announcement
                .envoys
                .into_iter()
                .map(|(node, text)| (node, digest(text)))
                .collect()
        } else {
            BTreeMap::new()
        };
        other
            .acked
            .retain(|node, _| other.digests.contains_key(node));
    }

    fn forget(&mut self, name: &str) {
        self.others.remove(name);
    }

    fn keep_only(&mut self, leases: &[Lease]) {
        self.others
            .retain(|other, _| leases.iter().any(|lease| name(lease) == *other));
    }

    /// Leases whose replica is gone.
    fn abandoned(&self, now: Instant) -> Vec<String> {
        self.others
            .iter()
            .filter(|(_, other)| now.duration_since(other.seen) >= ABANDONED)
            .map(|(name, _)| name.clone())
            .collect()
    }

    /// What all connected Envoys have acknowledged. An Envoy that is moving to another replica counts once.
    fn count(
        &mut self,
        mut counts: AckedCounts,
        is_local: impl Fn(&str) -> bool,
        now: Instant,
    ) -> Acknowledged {
        let mut acked: BTreeMap<&str, u64> = BTreeMap::new();
        for other in self.others.values_mut() {
            if now.duration_since(other.seen) >= DURATION {
                continue;
            }
            for (node, digest) in &other.digests {
                let current = digest.and_then(|digest| self.numbers.get(&digest));
                let number = other.acked.entry(node.clone()).or_insert(0);
                *number = current.copied().unwrap_or(*number);
                let newest = acked.entry(node).or_insert(0);
                *newest = (*newest).max(*number);
            }
        }
        for (_, number) in acked.into_iter().filter(|(node, _)| !is_local(node)) {
            *counts.entry(number).or_default() += 1;
        }
        Acknowledged::of_counts(counts)
    }

    /// What Envoys of other replicas reject, and have acknowledged as of the last count.
    fn elsewhere(&self, is_local: impl Fn(&str) -> bool, now: Instant) -> Elsewhere {
        let others = || {
            let others = self.others.values();
            others.filter(|other| now.duration_since(other.seen) < DURATION)
        };
        let acked = others().flat_map(|other| &other.acked);
        let acked = acked.filter(|(node, _)| !is_local(node));
        Elsewhere {
            rejections: others()
                .flat_map(|other| other.rejections.iter().cloned())
                .collect(),
            acked: acked.map(|(_, number)| *number).min().unwrap_or(0),
            oldest: others().filter_map(|other| other.oldest).min(),
        }
    }
}

fn name(lease: &Lease) -> String {
    lease.metadata.name.clone().unwrap_or_default()
}

/// Name of a replica's Lease: characters that are invalid in names become dashes.
fn lease_name(identity: &str) -> String {
    let kept = identity
        .chars()
        .map(|letter| letter.to_ascii_lowercase())
        .map(|letter| {
            if letter.is_ascii_alphanumeric() {
                letter
            } else {
                '-'
            }
        });
    let name: String = "nuncio-replica-".chars().chain(kept).take(253).collect();
    name.trim_end_matches('-').to_owned()
}

/// Digest of what must be equal for snapshots to be comparable.
fn instance(settings: &Settings) -> String {
    let text = format!("{} {settings:?}", env!("CARGO_PKG_VERSION"));
    format!("{:016x}", xxhash_rust::xxh3::xxh3_64(text.as_bytes()))
}

#[cfg(test)]
mod tests;
