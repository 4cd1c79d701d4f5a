//! The queue against a model cluster: writes are counted, time is made up.

use serde_json::json;

use super::*;
use crate::status::manager::Rival;

/// A queue, the statuses that its writes have made, and the time.
struct World {
    queue: Queue,
    now: Instant,
    /// Every write, in order.
    writes: Vec<Write>,
    /// Most objects that one call has looked at.
    most: usize,
}

impl World {
    /// A leader of a fleet that is up to date with snapshot 1, past its first sweep.
    fn new(envoys: usize) -> Self {
        let mut world = Self {
            queue: Queue::default(),
            now: Instant::now(),
            writes: Vec::new(),
            most: 0,
        };
        world.queue.lead(true, world.now);
        world.acknowledge(&vec![1; envoys]);
        world.pass(STABLE);
        world
    }

    /// The same with this many Mappings, whose status is written.
    fn with_mappings(envoys: usize, number: usize) -> Self {
        let mut world = Self::new(envoys);
        for index in 0..number {
            world.record(1, &mapping(index), served());
        }
        world.pass(Duration::from_secs(600));
        assert_eq!(world.writes.len(), number);
        world.writes.clear();
        world
    }

    fn record(&mut self, seq: u64, object: &ObjectRef, report: Report) {
        self.queue
            .record(0, seq, object, Some(Arc::new(report)), self.now);
    }

    fn acknowledge(&mut self, acked: &[u64]) {
        self.queue
            .acknowledge(0, Acknowledged::new(acked.iter().copied()), self.now);
    }

    /// Lets time pass, and takes and performs every write that is due in it.
    fn pass(&mut self, time: Duration) {
        let end = self.now + time;
        loop {
            match self.next() {
                Next::Continue => {}
                Next::Write(write) => {
                    let outcome = Outcome::Written(write.desired.clone());
                    self.queue.done(&write, outcome, self.now);
                    self.writes.push(write);
                }
                Next::Wait(Some(at)) if at <= end => {
                    assert!(at > self.now, "a wait for what is there already");
                    self.now = at;
                }
                Next::Wait(_) => break,
            }
        }
        self.now = end;
    }

    fn next(&mut self) -> Next {
        self.queue.looks = 0;
        let next = self.queue.next(self.now, Timestamp::UNIX_EPOCH);
        self.most = self.most.max(self.queue.looks);
        next
    }

    fn programmed(&self, index: usize) -> String {
        let condition = &self.writes[index].status["conditions"][2];
        format!(
            "{}/{}",
            condition["status"].as_str().unwrap(),
            condition["message"].as_str().unwrap()
        )
    }
}

fn mapping(index: usize) -> ObjectRef {
    ObjectRef::new(Kind::Mapping, "default", &format!("m{index:05}"))
}

fn served() -> Report {
    Report {
        generation: 1,
        in_service: true,
        ..Report::default()
    }
}

fn edited(generation: i64) -> Report {
    Report {
        generation,
        ..served()
    }
}

#[test]
fn an_edit_that_is_acknowledged_soon_costs_one_write() {
    let mut world = World::new(2);
    world.record(2, &mapping(0), served());
    world.pass(Duration::from_millis(20));
    assert!(world.writes.is_empty(), "it waits for the Envoys");
    world.acknowledge(&[1, 2]);
    world.pass(Duration::from_millis(20));
    assert!(world.writes.is_empty(), "it waits for the second Envoy");
    world.acknowledge(&[2, 2]);
    world.pass(Duration::ZERO);
    assert_eq!(world.programmed(0), "True/2/2 Envoys");
    world.pass(Duration::from_secs(100));
    assert_eq!(world.writes.len(), 1);
}

#[test]
fn an_edit_that_an_envoy_does_not_take_is_written_as_pending_and_again_when_it_does() {
    let mut world = World::new(2);
    world.record(2, &mapping(0), served());
    world.acknowledge(&[1, 2]);
    world.pass(SETTLE);
    assert_eq!(world.programmed(0), "False/1/2 Envoys");
    world.acknowledge(&[2, 2]);
    world.pass(Duration::ZERO);
    assert_eq!(world.programmed(1), "True/2/2 Envoys");
    assert_eq!(world.writes.len(), 2);
}

#[test]
fn an_acknowledgement_reaches_every_kind_that_came_with_its_snapshot() {
    let kinds = || {
        let all = Kind::ALL.into_iter();
        all.filter(|kind| kind.info().status.is_ours())
    };
    let mut world = World::new(1);
    for kind in kinds() {
        world.record(2, &ObjectRef::new(kind, "", ""), served());
    }
    world.pass(SETTLE);
    assert_eq!(world.writes.len(), kinds().count());
    world.writes.clear();
    world.acknowledge(&[2]);
    world.pass(SETTLE);
    let mut programmed: Vec<Kind> = (0..world.writes.len())
        .filter(|index| world.programmed(*index) == "True/1/1 Envoys")
        .map(|index| world.writes[index].object.kind)
        .collect();
    programmed.sort();
    assert_eq!(programmed, kinds().collect::<Vec<_>>());
}

#[test]
fn an_acknowledgement_that_comes_before_the_report_counts() {
    let mut world = World::new(1);
    world.acknowledge(&[2]);
    world.record(2, &mapping(0), served());
    world.pass(Duration::ZERO);
    assert_eq!(world.programmed(0), "True/1/1 Envoys");
}

#[test]
fn of_many_edits_of_one_object_the_last_is_written() {
    let mut world = World::new(1);
    for generation in 2..100_i64 {
        world.record(generation.unsigned_abs(), &mapping(0), edited(generation));
    }
    world.acknowledge(&[99]);
    world.pass(Duration::from_secs(100));
    assert_eq!(world.writes.len(), 1);
    assert_eq!(
        world.writes[0].status["conditions"][2]["observedGeneration"],
        99
    );
}

#[test]
fn a_thousand_objects_are_written_at_the_rate_and_the_newest_first() {
    let mut world = World::new(1);
    for index in 0..1000 {
        world.record(2 + index as u64, &mapping(index), served());
    }
    world.acknowledge(&[5000]);
    world.pass(Duration::ZERO);
    assert_eq!(world.writes.len(), 100, "the burst");
    assert_eq!(world.writes[0].object, mapping(999));
    world.record(4000, &mapping(0), edited(2));
    world.pass(Duration::from_secs(1));
    assert_eq!(
        world.writes[100].object,
        mapping(0),
        "what changed last waits for nothing"
    );
    assert_eq!(world.writes.len(), 300);
    world.pass(Duration::from_secs(60));
    assert_eq!(world.writes.len(), 1000);
}

#[test]
fn what_a_user_edited_is_written_before_what_changes_with_it() {
    let mut world = World::with_mappings(1, 300);
    for index in 0..300 {
        let generation = if index == 150 { 2 } else { 1 };
        let unserved = Report {
            in_service: false,
            ..edited(generation)
        };
        world.record(2, &mapping(index), unserved);
    }
    world.acknowledge(&[2]);
    world.pass(Duration::from_secs(60));
    assert_eq!(world.writes.len(), 300);
    assert_eq!(world.writes[0].object, mapping(150));
}

#[test]
fn a_throttled_write_is_the_next_one_however_often() {
    let mut world = World::new(1);
    world.record(1, &mapping(0), served());
    world.record(1, &mapping(1), served());
    for _ in 0..10 {
        let Next::Write(write) = world.next() else {
            panic!()
        };
        assert_eq!(write.object, mapping(0));
        world.queue.done(&write, Outcome::Throttled, world.now);
    }
    world.pass(Duration::from_secs(1));
    assert_eq!(world.writes.len(), 2);
}

#[test]
fn a_write_that_the_watch_shows_before_its_answer_makes_no_work() {
    let mut world = World::new(1);
    world.record(1, &mapping(0), served());
    let Next::Write(write) = world.next() else {
        panic!()
    };
    world.queue.observe(&mapping(0), write.desired.clone());
    world
        .queue
        .done(&write, Outcome::Written(write.desired.clone()), world.now);
    assert_eq!(world.queue.pending(), 0);
    assert!(matches!(world.next(), Next::Wait(None)));
    assert_eq!(world.queue.looks, 0);
}

#[test]
fn a_status_that_another_writes_during_a_write_is_repaired() {
    let mut world = World::new(1);
    world.record(1, &mapping(0), served());
    let Next::Write(write) = world.next() else {
        panic!()
    };
    world.queue.observe(&mapping(0), write.desired.clone());
    let theirs = Observed::of(Kind::Mapping, &json!({"status": {"state": "Inactive"}}));
    world.queue.observe(&mapping(0), theirs);
    world
        .queue
        .done(&write, Outcome::Written(write.desired.clone()), world.now);
    world.pass(Duration::ZERO);
    assert_eq!(world.writes.len(), 1);
}

#[test]
fn a_status_that_the_object_already_has_is_not_written() {
    let mut world = World::with_mappings(1, 10);
    world.record(2, &mapping(3), served());
    world.acknowledge(&[2]);
    world.pass(Duration::from_secs(100));
    assert!(world.writes.is_empty(), "{:?}", world.writes);
}

#[test]
fn a_fleet_that_scales_costs_few_writes_at_a_time_and_none_before_it_is_stable() {
    let mut world = World::with_mappings(2, 1000);
    world.acknowledge(&[0, 1, 1]);
    world.acknowledge(&[1, 1, 1]);
    world.pass(STABLE - Duration::from_millis(1));
    assert!(world.writes.is_empty());
    world.pass(Duration::from_secs(10));
    assert!(
        (50..=60).contains(&world.writes.len()),
        "{}",
        world.writes.len()
    );
    assert_eq!(world.programmed(0), "True/3/3 Envoys");
    world.pass(Duration::from_secs(600));
    assert_eq!(world.writes.len(), 1000);
}

#[test]
fn an_edit_does_not_wait_behind_counts() {
    let mut world = World::with_mappings(2, 1000);
    world.acknowledge(&[1, 1, 1]);
    world.pass(STABLE + Duration::from_secs(1));
    world.writes.clear();
    world.record(2, &mapping(7), edited(2));
    world.acknowledge(&[2, 2, 2]);
    world.pass(Duration::ZERO);
    assert_eq!(world.writes[0].object, mapping(7));
    assert_eq!(world.programmed(0), "True/3/3 Envoys");
}

#[test]
fn an_envoy_that_reconnects_in_time_costs_no_write() {
    let mut world = World::with_mappings(1, 100);
    world.acknowledge(&[]);
    world.pass(Duration::from_secs(3));
    world.acknowledge(&[0]);
    world.pass(Duration::from_secs(1));
    world.acknowledge(&[1]);
    world.pass(Duration::from_secs(100));
    assert!(world.writes.is_empty(), "{:?}", world.writes);
}

#[test]
fn an_envoy_that_stays_away_is_reported() {
    let mut world = World::with_mappings(1, 100);
    world.acknowledge(&[]);
    world.pass(STABLE + Duration::from_secs(10));
    assert_eq!(world.writes.len(), 100);
    assert_eq!(world.programmed(0), "False/no Envoy is connected");
}

#[test]
fn a_fleet_that_never_settles_is_checked_anyway() {
    let mut world = World::with_mappings(1, 1);
    for _second in 0..STABLE_LIMIT.as_secs() / 2 + 5 {
        world.acknowledge(&[]);
        world.pass(Duration::from_secs(1));
        world.acknowledge(&[0]);
        world.pass(Duration::from_secs(1));
    }
    assert_eq!(world.programmed(0), "False/0/1 Envoys");
}

#[test]
fn an_acknowledgement_makes_no_work_for_objects_that_did_not_change() {
    let mut world = World::with_mappings(2, 1000);
    world.record(2, &mapping(0), edited(2));
    world.acknowledge(&[1, 2]);
    assert_eq!(world.queue.pending(), 1);
    world.acknowledge(&[2, 2]);
    assert_eq!(world.queue.pending(), 1);
}

#[test]
fn a_stuck_envoy_makes_no_work_for_objects_that_did_not_change() {
    let mut world = World::with_mappings(2, 1000);
    world.acknowledge(&[0, 1]);
    world.pass(Duration::from_secs(600));
    world.writes.clear();
    world.record(2, &mapping(0), edited(2));
    world.acknowledge(&[0, 2]);
    assert_eq!(world.queue.pending(), 1);
    world.pass(Duration::from_secs(100));
    assert_eq!(world.writes.len(), 1);
}

#[test]
fn only_the_leader_writes_and_a_new_one_repairs_what_is_stale() {
    let mut world = World::new(1);
    world.queue.lead(false, world.now);
    for index in 0..10 {
        world.record(1, &mapping(index), served());
    }
    world.pass(Duration::from_secs(100));
    assert!(world.writes.is_empty());
    // the leader before it has written all but one
    let mut other = World::new(1);
    for index in 0..9 {
        other.record(1, &mapping(index), served());
    }
    other.pass(Duration::from_secs(100));
    for write in &other.writes {
        world.queue.observe(&write.object, write.desired.clone());
    }
    world.queue.lead(true, world.now);
    world.pass(Duration::from_secs(100));
    assert_eq!(world.writes.len(), 1);
    assert_eq!(world.writes[0].object, mapping(9));
}

#[test]
fn a_new_leader_takes_nothing_back_before_envoys_had_time_to_connect() {
    let before = World::with_mappings(1, 10);
    let mut world = World {
        queue: Queue::default(),
        now: before.now,
        writes: Vec::new(),
        most: 0,
    };
    for (object, entry) in &before.queue.entries {
        world.queue.observe(object, entry.observed.clone());
        world.record(1, object, served());
    }
    world.queue.lead(true, world.now);
    world.pass(STABLE - Duration::from_millis(1));
    assert!(world.writes.is_empty(), "{:?}", world.writes);
    world.acknowledge(&[1]);
    world.pass(Duration::from_secs(100));
    assert!(world.writes.is_empty(), "{:?}", world.writes);
}

#[test]
fn a_status_that_was_deleted_is_written_again() {
    let mut world = World::with_mappings(1, 1);
    world.queue.observe(&mapping(0), Observed::default());
    world.pass(Duration::ZERO);
    assert_eq!(world.writes.len(), 1);
}

#[test]
fn a_failed_write_is_retried_after_growing_pauses() {
    let mut world = World::new(1);
    world.record(1, &mapping(0), served());
    let mut tries = Vec::new();
    let start = world.now;
    while tries.len() < 4 {
        match world.next() {
            Next::Continue => {}
            Next::Write(write) => {
                tries.push((world.now - start).as_millis());
                world.queue.done(&write, Outcome::Failed, world.now);
            }
            Next::Wait(at) => world.now = at.unwrap(),
        }
    }
    let pauses: Vec<u128> = tries.windows(2).map(|pair| pair[1] - pair[0]).collect();
    for (pause, shortest) in pauses.iter().zip([500, 1000, 2000]) {
        assert!((shortest..=2 * shortest).contains(pause), "{pauses:?}");
    }
}

#[test]
fn a_status_that_becomes_another_one_is_not_written_for_ever() {
    let mut world = World::new(1);
    world.record(1, &mapping(0), served());
    let Next::Write(write) = world.next() else {
        panic!()
    };
    // a schema without conditions has dropped them
    let pruned = Observed::of(Kind::Mapping, &json!({"status": {"state": "Running"}}));
    world
        .queue
        .done(&write, Outcome::Written(pruned.clone()), world.now);
    world.queue.observe(&mapping(0), pruned);
    world.queue.lead(false, world.now);
    world.queue.lead(true, world.now);
    world.pass(Duration::from_secs(100));
    assert!(world.writes.is_empty());
    world.record(
        1,
        &mapping(0),
        Report {
            in_service: false,
            ..served()
        },
    );
    world.pass(Duration::from_secs(1));
    assert_eq!(world.writes.len(), 1, "another status is another try");
}

#[test]
fn an_object_that_is_gone_is_forgotten_wherever_it_stands() {
    let mut world = World::new(1);
    world.record(2, &mapping(0), served());
    world.queue.record(0, 3, &mapping(0), None, world.now);
    world.record(2, &mapping(1), served());
    world.queue.forget(&mapping(1));
    world.record(1, &mapping(2), served());
    world.queue.forget(&mapping(2));
    assert_eq!(world.queue.pending(), 0);
    world.acknowledge(&[3]);
    world.pass(Duration::from_secs(100));
    assert!(world.writes.is_empty());
    assert!(world.queue.entries.is_empty() && world.queue.by_seq.is_empty());
}

#[test]
fn a_change_during_a_write_is_written_after_it() {
    let mut world = World::new(1);
    world.record(1, &mapping(0), served());
    let Next::Write(write) = world.next() else {
        panic!()
    };
    world.record(1, &mapping(0), edited(2));
    assert_eq!(world.queue.pending(), 0, "not twice at a time");
    world
        .queue
        .done(&write, Outcome::Written(write.desired.clone()), world.now);
    world.pass(Duration::ZERO);
    assert_eq!(
        world.writes[0].status["conditions"][0]["observedGeneration"],
        2
    );
}

#[test]
fn a_rejection_is_written_and_taken_back() {
    let mut world = World::with_mappings(1, 2);
    world
        .queue
        .reject(0, vec![(mapping(1), "duplicate domain".to_owned())]);
    world.pass(Duration::ZERO);
    assert_eq!(world.writes.len(), 1);
    assert!(
        world.programmed(0).starts_with("False/"),
        "{}",
        world.programmed(0)
    );
    assert!(
        world.programmed(0).ends_with("duplicate domain"),
        "{}",
        world.programmed(0)
    );
    world.queue.reject(0, Vec::new());
    world.pass(Duration::ZERO);
    assert_eq!(world.programmed(1), "True/1/1 Envoys");
}

/// What the apiserver has after another installation, which precedes this one, wrote a status.
fn theirs(generation: i64, wrote: i64) -> Observed {
    Observed {
        digest: 7,
        essence: 7,
        generation,
        rival: Some(Rival {
            name: "nuncio-a-default".to_owned(),
            wrote,
        }),
        ..Observed::default()
    }
}

#[test]
fn a_status_that_an_installation_that_sorts_first_writes_is_left_to_it() {
    let mut world = World::with_mappings(1, 2);
    world.queue.observe(&mapping(0), theirs(1, 100));
    world.queue.observe(&mapping(1), theirs(1, 100));
    world.pass(YIELD * 3);
    assert_eq!(world.writes.len(), 0);
    assert_eq!(world.queue.yielded(), 2);
    let met = world.queue.take_met();
    assert_eq!(met.len(), 1, "one warning: {met:?}");
    assert_eq!(world.queue.take_met(), []);
}

#[test]
fn an_installation_that_does_not_write_for_long_is_replaced_until_it_writes_again() {
    let mut world = World::with_mappings(1, 3);
    for index in 0..3 {
        world.queue.observe(&mapping(index), theirs(1, 100));
    }
    world.pass(Duration::from_secs(60));
    world.record(2, &mapping(0), edited(2));
    world.acknowledge(&[2]);
    world.pass(YIELD * 9 / 10);
    assert_eq!(world.writes.len(), 0);
    world.pass(YIELD / 5);
    assert_eq!(world.writes.len(), 3, "all of them");
    assert_eq!(world.queue.yielded(), 0);
    world.queue.observe(&mapping(1), theirs(1, 200));
    world.pass(Duration::from_secs(60));
    assert_eq!(world.writes.len(), 3, "it is back");
    assert_eq!(world.queue.yielded(), 1);
}

#[test]
fn an_installation_that_is_slow_is_waited_for() {
    let mut world = World::with_mappings(1, 1);
    world.queue.observe(&mapping(0), theirs(1, 100));
    world.record(2, &mapping(0), edited(2));
    world.acknowledge(&[2]);
    world.pass(YIELD / 2);
    world.queue.observe(&mapping(0), theirs(2, 400));
    world.pass(YIELD * 2);
    assert_eq!(world.writes.len(), 0);
}

#[test]
fn a_call_looks_at_a_bounded_number_of_objects_whatever_the_fleet_does() {
    const NUMBER: usize = 400;
    let mut world = World::with_mappings(2, NUMBER);
    world.most = 0;
    // an Envoy comes, takes a while to acknowledge, and goes
    for acked in [&[1, 1, 0][..], &[1, 1, 1], &[1, 1]] {
        world.queue.looks = 0;
        world.acknowledge(acked);
        assert!(world.queue.looks <= CHECKS, "{}", world.queue.looks);
        world.pass(STABLE);
    }
    // the leader changes
    for is_leader in [false, true] {
        world.queue.looks = 0;
        world.queue.lead(is_leader, world.now);
        assert!(world.queue.looks <= CHECKS, "{}", world.queue.looks);
    }
    world.pass(Duration::from_secs(600));
    assert!(world.most > 0, "objects are checked");
    assert!(world.most <= 3 * CHECKS, "{} of {NUMBER}", world.most);

    // and all of them are
    world.writes.clear();
    world.acknowledge(&[1, 1, 1]);
    world.pass(Duration::from_secs(600));
    assert_eq!(world.writes.len(), NUMBER);
    assert_eq!(world.programmed(0), "True/3/3 Envoys");
}

#[test]
fn an_acknowledgement_of_everything_reaches_all_objects_soon() {
    let mut world = World::new(1);
    for index in 0..400 {
        world.record(2 + index as u64, &mapping(index), served());
    }
    world.queue.looks = 0;
    world.acknowledge(&[500]);
    assert!(world.queue.looks <= CHECKS, "{}", world.queue.looks);
    world.pass(Duration::from_secs(6));
    assert_eq!(world.writes.len(), 400, "as fast as the rate allows");
    let programmed = (0..400).filter(|index| world.programmed(*index) == "True/1/1 Envoys");
    assert_eq!(programmed.count(), 400, "each once, and programmed");
}
