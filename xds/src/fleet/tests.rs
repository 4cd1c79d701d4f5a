use super::*;

fn envoy(node: &str) -> Envoy {
    Envoy {
        node: node.to_owned(),
        cluster: String::new(),
        protocol: Protocol::Delta,
        version: None,
        acked: 0,
        digest: None,
    }
}

fn reject(member: &mut Membership, version: u128) -> bool {
    let (name, message) = ("c".into(), "no".into());
    member.reject(ResourceType::Cluster, &name, Version(version), &message)
}

#[test]
fn envoys_with_the_same_node_id_are_each_counted() {
    let fleet = Fleet::new();
    let mut old = fleet.join(envoy("a"));
    old.acknowledge(7, None);
    assert!(!old.proves_shared_node());
    let mut new = fleet.join(envoy("a"));
    new.acknowledge(9, None);
    assert_eq!(fleet.acked_counts(), [(7, 1), (9, 1)].into());
    assert_eq!(fleet.state().envoys.len(), 2);
    assert!(!new.proves_shared_node(), "the old stream can be dead");
    assert!(old.proves_shared_node());
    assert!(!old.proves_shared_node(), "logged once");
    drop(new);
    assert_eq!(fleet.acked_counts(), [(7, 1)].into());
    assert!(fleet.has_node("a"));
    drop(old);
    assert!(fleet.state().envoys.is_empty());
    assert!(!fleet.has_node("a"));
    assert!(fleet.acked_counts().is_empty());
}

#[test]
fn rejections_are_counted_by_version() {
    let fleet = Fleet::new();
    let mut changes = fleet.subscribe_rejections();
    let mut members: Vec<Membership> = (0..500)
        .map(|n| fleet.join(envoy(&n.to_string())))
        .collect();
    assert!(!changes.has_changed().unwrap(), "an Envoy came");
    for member in &mut members {
        reject(member, 1);
    }
    assert_eq!(*changes.borrow_and_update(), 1, "500 NACKs are one change");
    let rejections = fleet.rejections();
    assert_eq!(rejections.len(), 1);
    assert_eq!(rejections[0].envoys, 500);
    assert_eq!(&*rejections[0].message, "no");
    reject(&mut members[0], 2);
    assert_eq!(fleet.rejections().len(), 2, "another version");
    for member in &mut members {
        member.accept(ResourceType::Cluster, &"c".into());
        member.acknowledge(1, Some(77));
    }
    assert!(fleet.rejections().is_empty());
    assert!(
        fleet
            .suspects()
            .borrow()
            .contains(ResourceType::Cluster, &"c".into(), Version(1)),
        "what was rejected once is remembered"
    );
}

#[test]
fn acks_do_not_wake_readers_of_rejections() {
    let fleet = Fleet::new();
    let mut member = fleet.join(envoy("a"));
    let (mut acknowledged, mut rejections) =
        (fleet.subscribe_acknowledged(), fleet.subscribe_rejections());
    member.acknowledge(1, None);
    assert!(acknowledged.has_changed().unwrap());
    assert!(!rejections.has_changed().unwrap());
    acknowledged.mark_unchanged();
    reject(&mut member, 1);
    assert!(!acknowledged.has_changed().unwrap());
    assert!(rejections.has_changed().unwrap());
    rejections.mark_unchanged();
    drop(member);
    assert!(acknowledged.has_changed().unwrap());
    assert!(rejections.has_changed().unwrap());
}

/// Readers of what is complete are woken once for a snapshot, and each snapshot takes a step or two, however many Envoys there are.
#[test]
fn five_hundred_envoys_leave_as_much_as_two() {
    let fleet = Fleet::new();
    let names: Vec<String> = (0..500).map(|number| format!("envoy-{number}")).collect();
    let mut members: Vec<_> = names.iter().map(|name| fleet.join(envoy(name))).collect();
    let mut complete = fleet.subscribe_complete();
    for member in &mut members {
        member.acknowledge(1, None);
    }
    complete.mark_unchanged();
    for seq in 2..=100 {
        let mut woken = 0;
        for member in &mut members {
            assert_eq!(fleet.delivery(seq).last, None);
            member.acknowledge(seq, None);
            woken += usize::from(complete.has_changed().unwrap());
            complete.mark_unchanged();
        }
        assert_eq!((woken, *complete.borrow()), (1, seq));
        let Delivery { first, last } = fleet.delivery(seq);
        let (first, last) = (first.unwrap(), last.unwrap());
        assert_eq!((&*first.node, &*last.node), ("envoy-0", "envoy-499"));
        assert_eq!(last.envoys, 500);
    }
    assert_eq!(fleet.complete_after(50).len(), 50);
    // one that subscribes to more is not behind with what it had
    members[7].acknowledge(0, None);
    members[7].acknowledge(100, None);
    for member in members.iter_mut().skip(1) {
        member.acknowledge(101, None);
    }
    assert_eq!(*complete.borrow(), 100);
    drop(members.remove(0));
    let last = fleet.delivery(101).last.unwrap();
    assert_eq!((&*last.node, last.means), ("envoy-0", Means::Left));
}

#[test]
fn the_oldest_version_is_told_when_it_changes() {
    let fleet = Fleet::new();
    let mut told = fleet.subscribe_oldest();
    let join = |node: &str, minor: Option<u32>| {
        fleet.join(Envoy {
            version: minor.map(EnvoyVersion::minor),
            ..envoy(node)
        })
    };
    let oldest = |told: &mut watch::Receiver<Option<EnvoyVersion>>| {
        let has_changed = told.has_changed().unwrap();
        has_changed.then(|| told.borrow_and_update().map(|version| version.minor))
    };
    let unknown = join("a", None);
    assert_eq!(oldest(&mut told), None, "it says none");
    let newer = join("b", Some(40));
    assert_eq!(oldest(&mut told), Some(Some(40)));
    let older = [join("c", Some(38)), join("d", Some(38))];
    assert_eq!(oldest(&mut told), Some(Some(38)));
    let [first, second] = older;
    drop(first);
    assert_eq!(oldest(&mut told), None, "another one has it");
    drop(second);
    assert_eq!(oldest(&mut told), Some(Some(40)));
    drop((unknown, newer));
    assert_eq!(oldest(&mut told), Some(None));
}
