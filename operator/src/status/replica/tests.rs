use nuncio_xds::fleet::{Envoy, Protocol};

use super::*;

fn census() -> Census {
    let mut census = Census {
        own: "nuncio-replica-a".to_owned(),
        instance: "same".to_owned(),
        fleet: None,
        numbers: BTreeMap::new(),
        order: VecDeque::new(),
        others: BTreeMap::new(),
    };
    for number in 1..=5 {
        census.snapshot(number, u128::from(number) * 16);
    }
    census
}

fn fleet(envoys: &[(&str, u64, Option<u128>)]) -> FleetState {
    FleetState {
        envoys: envoys
            .iter()
            .map(|(node, acked, digest)| Envoy {
                node: (*node).to_owned(),
                cluster: String::new(),
                protocol: Protocol::Delta,
                version: None,
                acked: *acked,
                digest: *digest,
            })
            .collect(),
        rejections: Vec::new(),
    }
}

fn announcement(instance: &str, envoys: &[(&str, Option<&str>)]) -> Announcement {
    Announcement {
        instance: instance.to_owned(),
        fleet: None,
        envoys: envoys
            .iter()
            .map(|(node, digest)| ((*node).to_owned(), digest.map(str::to_owned)))
            .collect(),
        oldest: None,
        rejected: Vec::new(),
    }
}

fn counted(census: &mut Census, now: Instant, numbers: &[u64]) {
    let is_local = |node: &str| node == "local";
    let count = census.count([(5, 1)].into(), is_local, now);
    assert_eq!(
        count,
        Acknowledged::new([5].into_iter().chain(numbers.iter().copied()))
    );
}

#[test]
fn an_envoy_of_another_replica_counts_by_its_digest() {
    let (mut census, now) = (census(), Instant::now());
    census.announcement(
        "b".into(),
        announcement("same", &[("x", Some("40")), ("y", None)]),
        now,
    );
    counted(&mut census, now, &[0, 4]);
}

#[test]
fn an_unknown_digest_keeps_the_last_number_until_that_snapshot_is_built() {
    let (mut census, now) = (census(), Instant::now());
    census.announcement("b".into(), announcement("same", &[("x", Some("30"))]), now);
    counted(&mut census, now, &[3]);
    census.announcement("b".into(), announcement("same", &[("x", Some("60"))]), now);
    counted(&mut census, now, &[3]);
    census.snapshot(6, 0x60);
    counted(&mut census, now, &[6]);
}

#[test]
fn a_digest_that_comes_back_counts_as_its_newest_snapshot() {
    let (mut census, now) = (census(), Instant::now());
    census.snapshot(6, 0x10);
    census.announcement("b".into(), announcement("same", &[("x", Some("10"))]), now);
    counted(&mut census, now, &[6]);
}

#[test]
fn a_replica_with_other_settings_is_not_counted() {
    let (mut census, now) = (census(), Instant::now());
    census.announcement("b".into(), announcement("other", &[("x", Some("40"))]), now);
    counted(&mut census, now, &[]);
}

#[test]
fn a_replica_is_gone_when_its_lease_has_expired_or_is_deleted() {
    let (mut census, now) = (census(), Instant::now());
    census.announcement("b".into(), announcement("same", &[("x", Some("40"))]), now);
    census.announcement(
        "c".into(),
        announcement("same", &[("y", Some("50"))]),
        now + DURATION,
    );
    counted(&mut census, now + DURATION, &[5]);
    census.forget("c");
    counted(&mut census, now + DURATION, &[]);
    assert!(census.abandoned(now + DURATION).is_empty());
    assert_eq!(census.abandoned(now + ABANDONED), ["b"]);
}

#[test]
fn an_envoy_that_has_moved_here_counts_once() {
    let (mut census, now) = (census(), Instant::now());
    census.announcement(
        "b".into(),
        announcement("same", &[("local", Some("10"))]),
        now,
    );
    counted(&mut census, now, &[]);
}

#[test]
fn our_own_lease_and_invalid_ones_are_not_counted() {
    let (mut census, now) = (census(), Instant::now());
    let lease = |name: &str, text: &str| Lease {
        metadata: ObjectMeta {
            name: Some(name.to_owned()),
            annotations: Some([(ANNOTATION.to_owned(), text.to_owned())].into()),
            ..ObjectMeta::default()
        },
        spec: None,
    };
    let text = r#"{"instance": "same", "envoys": {"x": "40"}}"#;
    census.lease(&lease("nuncio-replica-a", text), now);
    census.lease(&lease("nuncio-replica-b", "{]"), now);
    counted(&mut census, now, &[]);
    census.lease(&lease("nuncio-replica-b", text), now);
    counted(&mut census, now, &[4]);
    census.keep_only(&[lease("nuncio-replica-c", text)]);
    counted(&mut census, now, &[]);
}

#[test]
fn an_unacknowledged_snapshot_does_not_hide_the_one_before() {
    let first = envoys(
        &BTreeMap::new(),
        &fleet(&[("x", 1, Some(0x10)), ("y", 0, None)]),
    );
    assert_eq!(
        first["x"].as_deref(),
        Some("00000000000000000000000000000010")
    );
    assert_eq!(first["y"], None);
    let second = envoys(&first, &fleet(&[("x", 1, None)]));
    assert_eq!(second["x"], first["x"]);
    assert!(!second.contains_key("y"));
}

#[test]
fn the_number_of_remembered_snapshots_is_limited() {
    let mut census = census();
    for number in 6..6 + SNAPSHOTS as u64 {
        census.snapshot(number, u128::from(number) * 16);
    }
    assert_eq!(census.numbers.len(), SNAPSHOTS);
    assert!(!census.numbers.contains_key(&0x10));
}

#[test]
fn any_identity_gives_a_valid_name() {
    assert_eq!(
        lease_name("nuncio-7d9f-x2x"),
        "nuncio-replica-nuncio-7d9f-x2x"
    );
    assert_eq!(
        lease_name("My_Host.local-12_"),
        "nuncio-replica-my-host-local-12"
    );
    assert_eq!(lease_name(&"x".repeat(300)).len(), 253);
}

#[test]
fn envoys_with_the_same_node_id_are_announced_each() {
    let all = envoys(
        &BTreeMap::new(),
        &fleet(&[("x", 1, Some(0x10)), ("x", 2, None), ("y", 2, None)]),
    );
    let keys: Vec<&str> = all.keys().map(String::as_str).collect();
    assert_eq!(keys, ["x", "x (2)", "y"]);
}

#[test]
fn what_envoys_of_another_replica_reject_is_heard_while_it_runs() {
    let (mut census, now) = (census(), Instant::now());
    let rejection = Rejection {
        kind: ResourceType::RouteTable,
        name: "tcp-8080/cleartext".into(),
        version: Version(7),
        message: "no".into(),
        envoys: 1,
    };
    let mut announced = announcement(
        "same",
        &[("x", Some("30")), ("y", Some("20")), ("local", None)],
    );
    announced.oldest = Some("1.38".to_owned());
    announced.rejected = rejected(std::slice::from_ref(&rejection));
    let text = serde_json::to_string(&announced).unwrap();
    let announced: Announcement = serde_json::from_str(&text).unwrap();
    census.announcement("b".into(), announced, now);
    let is_local = |node: &str| node == "local";
    census.count(AckedCounts::new(), is_local, now);
    let expected = Elsewhere {
        rejections: vec![rejection],
        acked: 2,
        oldest: Some(EnvoyVersion::minor(38)),
    };
    assert_eq!(census.elsewhere(is_local, now), expected);
    assert_eq!(
        census.elsewhere(is_local, now + DURATION),
        Elsewhere::default()
    );
    let text = r#"{"instance": "same", "envoys": {}}"#;
    assert_eq!(
        serde_json::from_str::<Announcement>(text).unwrap().rejected,
        []
    );
}

#[test]
fn few_rejections_with_short_messages_are_announced() {
    let rejections: Vec<Rejection> = (0..100)
        .map(|n| Rejection {
            kind: ResourceType::Cluster,
            name: n.to_string().into(),
            version: Version(n),
            message: "x".repeat(5000).into(),
            envoys: 1,
        })
        .collect();
    let announced = rejected(&rejections);
    assert_eq!(announced.len(), REJECTIONS);
    assert!(
        announced
            .iter()
            .all(|rejected| rejected.message.len() <= MESSAGE)
    );
}

#[test]
fn what_another_fleet_rejects_is_not_heard() {
    let rejected = Rejected {
        r#type: ResourceType::Cluster.type_url().to_owned(),
        name: "shared".to_owned(),
        version: format!("{:032x}", 7),
        message: "no".to_owned(),
    };
    let from = |fleet: Option<&str>| Announcement {
        fleet: fleet.map(str::to_owned),
        rejected: vec![rejected.clone()],
        ..announcement("same", &[])
    };
    let now = Instant::now();
    for (own, theirs, is_heard) in [
        (None, None, true),
        (Some("a"), Some("a"), true),
        (Some("a"), Some("b"), false),
        // a replica with one fleet does not say which
        (None, Some("b"), true),
        (Some("a"), None, true),
    ] {
        let mut census = census();
        census.fleet = own.map(str::to_owned);
        census.announcement("other".into(), from(theirs), now);
        let heard = census.elsewhere(|_| false, now).rejections.len();
        assert_eq!(heard == 1, is_heard, "{own:?} of {theirs:?}");
    }
}

#[test]
fn an_announcement_of_one_fleet_is_as_before() {
    let text = serde_json::to_string(&announcement("same", &[("x", None)])).unwrap();
    assert_eq!(
        text,
        r#"{"instance":"same","envoys":{"x":null},"rejected":[]}"#
    );
}
