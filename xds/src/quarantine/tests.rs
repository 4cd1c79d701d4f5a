//! The quarantine with model Envoys, which look at the snapshot when a test says so.

use proptest::{collection::vec, prelude::*, sample::select};

use super::*;
use crate::encodings::Encodings;
use crate::{ResourceType, Version};

/// An Envoy, which rejects tables with a body of at least this number.
#[derive(Clone, Copy, Debug)]
struct Envoy {
    limit: u8,
    /// The snapshot at which it looked last; `None` if it is not connected.
    acked: Option<u64>,
}

/// Tables, each with a body; the body refers to a cluster, and that to its endpoints.
struct World {
    state: State,
    now: Instant,
    elsewhere: Elsewhere,
    snapshot: Snapshot,
    suspects: Suspects,
    tables: BTreeMap<&'static str, u8>,
    listener: Option<Resource>,
    /// What was wanted when it was published last.
    published: BTreeMap<Ref, Version>,
    envoys: Vec<Envoy>,
    /// What each Envoy rejects.
    rejections: BTreeMap<(usize, Ref), Rejection>,
}

fn table(name: &str, body: u8) -> Resource {
    Resource::new(ResourceType::RouteTable, name, vec![body].into())
        .with_refs([(ResourceType::Cluster, cluster_of(body))])
}

/// Two bodies share a cluster.
fn cluster_of(body: u8) -> Arc<str> {
    format!("cluster {}", body / 2).into()
}

impl World {
    /// A world with one Envoy, which rejects bodies of at least 100.
    fn new() -> Self {
        Self {
            envoys: vec![Envoy {
                limit: 100,
                acked: Some(0),
            }],
            state: State::default(),
            now: Instant::now(),
            elsewhere: Elsewhere::default(),
            snapshot: Snapshot::default(),
            suspects: Suspects::default(),
            tables: BTreeMap::new(),
            listener: None,
            published: BTreeMap::new(),
            rejections: BTreeMap::new(),
        }
    }

    /// The same, with another Envoy that accepts more.
    fn with_two() -> Self {
        let mut world = Self::new();
        world.envoys.push(Envoy {
            limit: 200,
            acked: Some(0),
        });
        world
    }

    fn wanted(&self) -> Vec<Resource> {
        let mut wanted = BTreeMap::new();
        for (name, body) in &self.tables {
            let cluster = cluster_of(*body);
            let endpoints = Resource::new(ResourceType::Endpoints, &*cluster, b"e".to_vec().into());
            let resource = Resource::new(ResourceType::Cluster, &*cluster, b"c".to_vec().into())
                .with_refs([(ResourceType::Endpoints, cluster)]);
            for resource in [table(name, *body), resource, endpoints] {
                wanted.insert((resource.kind, resource.name.clone()), resource);
            }
        }
        wanted.into_values().chain(self.listener.clone()).collect()
    }

    fn put(&mut self, name: &'static str, body: u8) {
        self.tables.insert(name, body);
        self.publish();
    }

    fn remove(&mut self, name: &'static str) {
        self.tables.remove(name);
        self.publish();
    }

    fn publish(&mut self) {
        self.review();
        let wanted = self.wanted();
        let after: BTreeMap<Ref, Version> = wanted
            .iter()
            .map(|resource| ((resource.kind, resource.name.clone()), resource.version))
            .collect();
        let before = std::mem::replace(&mut self.published, after);
        let is_new = |resource: &Resource| {
            let key = (resource.kind, resource.name.clone());
            before.get(&key) != Some(&resource.version)
        };
        let removals = before.keys();
        let update = Update {
            upserts: wanted.into_iter().filter(is_new).collect(),
            removals: removals
                .filter(|key| !self.published.contains_key(*key))
                .cloned()
                .collect(),
            ..Update::default()
        };
        let update = self.state.admit(update, &self.snapshot, &self.suspects);
        self.apply(&update);
    }

    fn apply(&mut self, update: &Update) {
        let next = self.snapshot.next_with(
            &update.upserts,
            &update.restored,
            &update.removals,
            &Encodings::default(),
        );
        if let Some(next) = next {
            self.snapshot = next;
        }
        self.check();
    }

    fn review(&mut self) {
        let mut acked = AckedCounts::new();
        for envoy in &self.envoys {
            if let Some(seq) = envoy.acked {
                *acked.entry(seq).or_default() += 1;
            }
        }
        let rejections: Vec<Rejection> = self.rejections.values().cloned().collect();
        let update = self.state.review(&Seen {
            snapshot: &self.snapshot,
            acked: &acked,
            rejections: &rejections,
            suspects: &self.suspects,
            elsewhere: &self.elsewhere,
            now: self.now,
        });
        self.apply(&update);
    }

    /// An Envoy acknowledges or rejects everything in the snapshot.
    fn look(&mut self, index: usize) {
        let Some(acked) = &mut self.envoys[index].acked else {
            return;
        };
        *acked = self.snapshot.seq;
        let limit = self.envoys[index].limit;
        let is_bad = |entry: &&Arc<Entry>| {
            (limit..=u8::MAX).any(|body| table("", body).version == entry.version)
        };
        let tables = self.snapshot.of(ResourceType::RouteTable).iter();
        let bad: Vec<Arc<Entry>> = tables.filter(is_bad).cloned().collect();
        for entry in bad {
            self.reject(index, ResourceType::RouteTable, &entry, "no");
        }
        self.rejections.retain(|(of, key), rejection| {
            let current = self.snapshot.get(key);
            *of != index || current.is_some_and(|current| current.version == rejection.version)
        });
    }

    fn reject(&mut self, index: usize, kind: ResourceType, entry: &Entry, message: &str) {
        let rejection = Rejection {
            kind,
            name: entry.name.clone(),
            version: entry.version,
            message: message.into(),
            envoys: 1,
        };
        self.suspects
            .insert((kind, entry.name.clone(), entry.version));
        let key = (kind, entry.name.clone());
        self.rejections.insert((index, key), rejection);
    }

    /// Every Envoy looks, until nothing changes any more.
    fn settle(&mut self) {
        for _ in 0..4 {
            (0..self.envoys.len()).for_each(|index| self.look(index));
            self.review();
        }
    }

    /// The same, and time passes.
    fn rest(&mut self) {
        self.settle();
        self.now += GRACE;
        self.settle();
    }

    /// What holds at any time.
    fn check(&self) {
        for (key, version) in &self.published {
            let served = self.snapshot.get(key).map(|entry| entry.version);
            match self.state.rejected.get(key) {
                Some(rejection) => assert_eq!(rejection.version, *version, "{key:?}"),
                None => assert_eq!(served, Some(*version), "{key:?} is not served as wanted"),
            }
        }
        for kind in ResourceType::ALL {
            for entry in self.snapshot.of(kind).iter() {
                let key = (kind, entry.name.clone());
                assert!(
                    self.published.contains_key(&key) || self.state.retired.contains_key(&key),
                    "nobody needs {key:?}"
                );
                for reference in entry.refs.iter() {
                    assert!(
                        self.snapshot.get(reference).is_some(),
                        "{key:?} refers to {reference:?}"
                    );
                }
            }
        }
        let kept = self.state.kept.values();
        let kept = kept.filter(|kept| !kept.is_accepted).count();
        assert_eq!(kept, self.state.order.len() + self.state.rejected.len());
    }

    /// The bodies of served tables, as a text.
    fn served(&self) -> String {
        let tables = self.snapshot.of(ResourceType::RouteTable).iter();
        let bodies = tables.map(|entry| {
            let body = (0..=u8::MAX).find(|body| table("", *body).version == entry.version);
            format!("{}={}", entry.name, body.unwrap_or_default())
        });
        bodies.collect::<Vec<_>>().join(" ")
    }

    fn clusters(&self) -> Vec<String> {
        let clusters = self.snapshot.of(ResourceType::Cluster).iter();
        clusters.map(|entry| entry.name.to_string()).collect()
    }

    fn is_clean(&self) -> bool {
        let state = &self.state;
        state.kept.is_empty() && state.rejected.is_empty() && state.retired.is_empty()
    }
}

#[test]
fn rejected_version_is_replaced_by_the_last_good_one_and_what_that_refers_to() {
    let mut world = World::new();
    world.put("a", 1);
    world.put("b", 20);
    world.rest();
    world.put("a", 100);
    assert_eq!(world.served(), "a=100 b=20", "it is tried");
    assert_eq!(world.clusters(), ["cluster 10", "cluster 50"]);
    world.rest();
    assert_eq!(world.served(), "a=1 b=20");
    assert_eq!(world.clusters(), ["cluster 0", "cluster 10", "cluster 50"]);
    world.put("b", 21);
    world.rest();
    assert_eq!(world.served(), "a=1 b=21", "others go on");
    let rejected: Vec<&Rejection> = world.state.rejected.values().collect();
    assert_eq!(rejected.len(), 1);
    assert_eq!(&*rejected[0].message, "no");
}

#[test]
fn rejected_version_is_not_tried_again_even_without_the_envoy_that_rejected_it() {
    let mut world = World::new();
    world.put("a", 1);
    world.rest();
    world.put("a", 100);
    world.rest();
    world.envoys[0] = Envoy {
        limit: 200,
        acked: Some(0),
    };
    world.rest();
    let again = Update {
        upserts: vec![table("a", 100)],
        ..Update::default()
    };
    let admitted = world.state.admit(again, &world.snapshot, &world.suspects);
    assert!(admitted.is_empty());
    world.rest();
    assert_eq!(world.served(), "a=1");
}

#[test]
fn repair_is_tried_while_the_good_version_is_kept() {
    let mut world = World::new();
    world.put("a", 1);
    world.rest();
    world.put("a", 100);
    world.rest();
    world.put("a", 120);
    assert_eq!(world.served(), "a=120");
    assert!(world.clusters().contains(&"cluster 0".to_owned()));
    world.rest();
    assert_eq!(world.served(), "a=1");
    world.put("a", 30);
    assert_eq!(world.served(), "a=30");
    assert_eq!(world.clusters(), ["cluster 0", "cluster 15"]);
    world.rest();
    assert_eq!(world.clusters(), ["cluster 15"]);
    assert!(world.is_clean());
}

#[test]
fn going_back_to_the_good_version_ends_it() {
    let mut world = World::new();
    world.put("a", 1);
    world.rest();
    world.put("a", 100);
    world.rest();
    let seq = world.snapshot.seq;
    world.put("a", 1);
    assert_eq!(world.clusters(), ["cluster 0"]);
    world.rest();
    assert!(world.is_clean());
    assert_eq!(
        world.snapshot.seq,
        seq + 1,
        "only what was added for the other version is removed"
    );
}

#[test]
fn without_a_good_version_nothing_is_replaced() {
    let mut world = World::new();
    world.put("a", 100);
    world.rest();
    assert_eq!(world.served(), "a=100");
    world.put("a", 101);
    world.rest();
    assert_eq!(world.served(), "a=101", "the version before is not good");
    world.put("a", 1);
    world.rest();
    assert_eq!(world.served(), "a=1");
    assert!(world.is_clean());
}

#[test]
fn one_envoy_that_rejects_is_enough() {
    let mut world = World::with_two();
    world.put("a", 1);
    world.rest();
    world.put("a", 100);
    world.look(1);
    world.review();
    assert_eq!(world.served(), "a=100", "one accepts it");
    world.look(0);
    world.review();
    assert_eq!(world.served(), "a=1");
}

#[test]
fn a_version_that_all_have_accepted_stays_when_another_envoy_rejects_it() {
    let mut world = World::new();
    world.envoys[0].limit = 200;
    world.put("a", 1);
    world.rest();
    world.put("a", 100);
    world.rest();
    world.envoys.push(Envoy {
        limit: 100,
        acked: Some(0),
    });
    world.rest();
    assert_eq!(world.served(), "a=100");
}

#[test]
fn version_that_no_envoy_has_seen_is_not_good() {
    let mut world = World::new();
    world.put("a", 1);
    world.rest();
    world.envoys[0].acked = None;
    world.put("a", 40);
    world.put("a", 100);
    world.envoys[0].acked = Some(0);
    world.rest();
    assert_eq!(world.served(), "a=1");
}

#[test]
fn where_changes_are_faster_than_envoys_one_in_between_becomes_good() {
    let mut world = World::new();
    world.put("a", 1);
    world.rest();
    world.put("a", 10);
    let seen = world.snapshot.seq;
    world.put("a", 11);
    world.put("a", 12);
    world.envoys[0].acked = Some(seen);
    world.put("a", 100);
    world.rest();
    assert_eq!(world.served(), "a=10");
}

#[test]
fn a_version_that_an_envoy_has_skipped_is_not_good() {
    let mut world = World::with_two();
    world.put("a", 1);
    world.rest();
    world.put("a", 100);
    world.look(1);
    world.put("a", 101);
    world.look(0);
    world.rest();
    assert_eq!(world.served(), "a=1");
}

/// What another replica says whose Envoys reject the current version of a table.
fn rejected_elsewhere(world: &World, name: &str, acked: u64) -> Elsewhere {
    let key = (ResourceType::RouteTable, name.into());
    Elsewhere {
        rejections: vec![Rejection {
            kind: key.0,
            version: world.snapshot.get(&key).unwrap().version,
            name: key.1,
            message: "not there".into(),
            envoys: 1,
        }],
        acked,
        oldest: None,
    }
}

#[test]
fn what_envoys_of_another_replica_reject_is_replaced_although_all_here_accept_it() {
    let mut world = World::new();
    world.put("a", 1);
    world.rest();
    world.put("a", 30);
    world.settle();
    world.elsewhere = rejected_elsewhere(&world, "a", 0);
    world.review();
    assert_eq!(world.served(), "a=1");
    world.elsewhere = Elsewhere::default();
    world.rest();
    assert_eq!(world.served(), "a=1", "until another version is wanted");
    world.put("a", 31);
    world.rest();
    assert_eq!(world.served(), "a=31");
    assert!(world.is_clean());
}

#[test]
fn replica_without_envoys_learns_from_others_what_is_good() {
    let mut world = World::new();
    world.envoys.clear();
    world.put("a", 1);
    world.elsewhere.acked = world.snapshot.seq;
    world.review();
    world.put("a", 30);
    world.elsewhere = rejected_elsewhere(&world, "a", world.snapshot.seq - 1);
    world.review();
    assert_eq!(world.served(), "a=1");
}

#[test]
fn removed_table_leaves_nothing() {
    let mut world = World::new();
    world.put("a", 1);
    world.rest();
    world.put("a", 100);
    world.rest();
    world.remove("a");
    assert_eq!((world.served(), world.clusters().len()), (String::new(), 0));
    assert!(world.is_clean());
}

#[test]
fn a_chain_of_references_is_kept_even_if_it_goes_bit_by_bit() {
    let mut world = World::new();
    world.put("a", 1);
    world.rest();
    let listener = |body: &str, tables: &[&str]| {
        let body = body.as_bytes().to_vec().into();
        let tables = tables.iter();
        let refs = tables.map(|name| (ResourceType::RouteTable, (*name).into()));
        Resource::new(ResourceType::Listener, "l", body).with_refs(refs)
    };
    world.listener = Some(listener("1", &["a"]));
    world.publish();
    world.rest();
    world.listener = Some(listener("2", &[]));
    world.publish();
    world.remove("a");
    assert_eq!(world.state.retired.len(), 3, "table, cluster, endpoints");
    let key = (ResourceType::Listener, Arc::from("l"));
    let second = world.snapshot.get(&key).cloned().unwrap();
    world.reject(0, ResourceType::Listener, &second, "cannot bind '[::]:80'");
    world.review();
    assert_eq!(world.served(), "", "an address that is taken");
    world.reject(0, ResourceType::Listener, &second, "no");
    world.review();
    assert_eq!(world.served(), "a=1");
    assert_eq!(world.clusters(), ["cluster 0"]);
}

#[test]
fn the_number_of_good_versions_is_limited() {
    let mut state = State::default();
    let resources = |body: &'static [u8]| -> Vec<Resource> {
        let names = (0..LIMIT + 10).map(|n| format!("{n:05}"));
        names
            .map(|name| Resource::new(ResourceType::Secret, name, body.into()))
            .collect()
    };
    let first = Snapshot::default().next(&resources(b"1"), &[]).unwrap();
    let suspects = Suspects::default();
    state.review(&Seen {
        snapshot: &first,
        acked: &AckedCounts::from([(1, 1)]),
        rejections: &[],
        suspects: &suspects,
        elsewhere: &Elsewhere::default(),
        now: Instant::now(),
    });
    let update = Update {
        upserts: resources(b"2"),
        ..Update::default()
    };
    state.admit(update, &first, &suspects);
    assert_eq!((state.kept.len(), state.order.len()), (LIMIT, LIMIT));
}

#[derive(Clone, Debug)]
enum Step {
    Put(&'static str, u8),
    Remove(&'static str),
    Look(usize),
    Review,
    Rest,
    Connect(usize),
    Disconnect(usize),
}

fn step() -> impl Strategy<Value = Step> {
    let name = || select(&["a", "b", "c"][..]);
    let body = prop_oneof![3 => 0..8_u8, 1 => 100..104_u8, 1 => 200..204_u8];
    prop_oneof![
        6 => (name(), body).prop_map(|(name, body)| Step::Put(name, body)),
        1 => name().prop_map(Step::Remove),
        3 => (0..2_usize).prop_map(Step::Look),
        2 => Just(Step::Review),
        2 => Just(Step::Rest),
        1 => (0..2_usize).prop_map(Step::Connect),
        1 => (0..2_usize).prop_map(Step::Disconnect),
    ]
}

proptest! {
    /// After any steps everything is served as wanted that is not in quarantine, and nothing refers to what is gone (see
    /// [`World::check`]). Once all Envoys have looked, no table is served that one of them rejects, if there was one that
    /// all accepted; and nothing is kept if they accept what is wanted.
    #[test]
    fn good_versions_are_served(steps in vec(step(), 1..60)) {
        let mut world = World::new();
        world.envoys.push(Envoy { limit: 200, acked: None });
        // tables that have been served in a version that all Envoys accepted
        let mut have_good: BTreeSet<&str> = BTreeSet::new();
        for step in steps {
            match step {
                Step::Put(name, body) => world.put(name, body),
                Step::Remove(name) => {
                    world.remove(name);
                    have_good.remove(name);
                }
                Step::Look(index) => world.look(index),
                Step::Review => world.review(),
                Step::Connect(index) => {
                    have_good.clear();
                    world.envoys[index].acked.get_or_insert(0);
                }
                Step::Disconnect(index) => {
                    world.envoys[index].acked = None;
                    world.rejections.retain(|(of, _), _| *of != index);
                }
                Step::Rest => {
                    world.rest();
                    let connected = world.envoys.iter().filter(|envoy| envoy.acked.is_some());
                    let Some(limit) = connected.map(|envoy| envoy.limit).min() else {
                        continue;
                    };
                    for (name, body) in &world.tables {
                        let key = (ResourceType::RouteTable, Arc::from(*name));
                        let served = world.snapshot.get(&key).unwrap().version;
                        let is_bad = (limit..=u8::MAX).any(|body| table("", body).version == served);
                        prop_assert!(!is_bad || !have_good.contains(name), "{name} {body}: {}", world.served());
                        if !is_bad {
                            have_good.insert(name);
                        }
                    }
                    if world.tables.values().all(|body| *body < 100) {
                        prop_assert!(world.is_clean(), "{:?}", world.state);
                    }
                }
            }
        }
    }
}
