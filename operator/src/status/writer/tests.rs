//! Writes to an apiserver that answers as a test says.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use tokio::time::{sleep, timeout};

use super::*;
use crate::{
    client::{
        Limits,
        testing::{Answer, Apiserver},
    },
    metrics::ResultLabel,
};
use nuncio_core::{
    object::{Kind, ObjectRef},
    report::Report,
    settings::Settings,
};

/// A running writer, and the requests that have come.
struct World {
    book: Book,
    metrics: Metrics,
    /// When each request came, and for which object.
    requests: Arc<Mutex<Vec<(Instant, String)>>>,
}

impl World {
    /// Writes to an apiserver that gives this answer to a request of this number.
    async fn start(answer: impl Fn(usize, &mut Answer) + Send + Sync + 'static) -> Self {
        let requests: Arc<Mutex<Vec<(Instant, String)>>> = Arc::default();
        let seen = requests.clone();
        let apiserver = Apiserver::start(move |path, reply| {
            let mut seen = seen.lock().unwrap();
            let name = path.rsplit('/').nth(1).unwrap_or_default().to_owned();
            answer(seen.len(), reply);
            seen.push((Instant::now(), name));
        })
        .await;
        let world = Self {
            book: Book::default(),
            metrics: Metrics::default(),
            requests,
        };
        let (book, metrics) = (world.book.clone(), world.metrics.clone());
        let client = apiserver.client(Limits::default());
        let manager = Manager::new(&Settings::default().into());
        tokio::spawn(write(book, client, metrics, manager));
        world.book.lead(true);
        world
    }

    fn record(&self, seq: u64, name: &str, generation: i64) {
        let report = Report {
            generation,
            in_service: true,
            ..Report::default()
        };
        let object = ObjectRef::new(Kind::Mapping, "default", name);
        self.book
            .record(seq, vec![(object, Some(Arc::new(report)))]);
    }

    fn writes(&self, result: &'static str) -> u64 {
        let label = ResultLabel { result };
        self.metrics.status_writes.get_or_create(&label).get()
    }

    fn requests(&self) -> Vec<(Instant, String)> {
        self.requests.lock().unwrap().clone()
    }

    /// Waits for this number of requests.
    async fn has(&self, count: usize) -> Vec<(Instant, String)> {
        let wait = async {
            while self.requests().len() < count {
                sleep(Duration::from_millis(5)).await;
            }
        };
        let waited = timeout(Duration::from_secs(20), wait).await;
        assert!(waited.is_ok(), "{} requests", self.requests().len());
        self.requests()
    }
}

/// What the apiserver answers to a write; its schema drops the status.
const WRITTEN: &str = r#"{"metadata":{"name":"a","namespace":"default","managedFields":[]}}"#;

fn throttle(reply: &mut Answer) {
    reply.complete_with(
        429,
        "retry-after: 1",
        "Too many requests, please try again later.",
    );
}

#[tokio::test]
async fn no_write_comes_before_the_time_that_the_apiserver_asks_for_and_none_is_lost() {
    let world = World::start(|number, reply| match number {
        0..4 => throttle(reply),
        _ => reply.complete(200, WRITTEN),
    })
    .await;
    for number in 0..30 {
        world.record(number, &format!("m-{number}"), 1);
    }
    let requests = world.has(34).await;
    let pauses: Vec<(usize, Duration)> = requests
        .windows(2)
        .map(|pair| pair[1].0 - pair[0].0)
        .enumerate()
        .filter(|(_, pause)| *pause > Duration::from_millis(500))
        .collect();
    // two are under way at first, then one at a time
    let after: Vec<usize> = pauses.iter().map(|(number, _)| *number).collect();
    assert_eq!(after, [1, 2, 3], "{pauses:?}");
    assert!(
        pauses
            .iter()
            .all(|(_, pause)| *pause >= Duration::from_millis(950)),
        "{pauses:?}"
    );
    let mut names: Vec<&String> = requests[4..].iter().map(|(_, name)| name).collect();
    names.sort();
    names.dedup();
    assert_eq!(names.len(), 30, "each is written after the last pause");
    sleep(Duration::from_millis(300)).await;
    assert_eq!(world.requests().len(), 34, "and once");
    assert_eq!(world.writes("throttled"), 4);
    assert_eq!(world.writes("ok"), 30);
}

#[tokio::test]
async fn what_a_user_edits_during_a_pause_is_written_first_after_it() {
    let world = World::start(|number, reply| match number {
        0 | 1 => throttle(reply),
        _ => reply.complete(200, WRITTEN),
    })
    .await;
    for number in 0..50 {
        world.record(number, &format!("m-{number}"), 1);
    }
    world.has(2).await;
    world.record(100, "edited", 7);
    let requests = world.has(10).await;
    let place = requests.iter().position(|(_, name)| name == "edited");
    // it waits for Envoys half a second, and the pause is longer
    assert_eq!(place, Some(2), "{requests:?}");
}

#[tokio::test]
async fn an_answer_of_any_kind_ends_a_write() {
    let world = World::start(|number, reply| match number {
        0 => reply.complete(500, "<html>"),
        1 => reply.complete(409, "{}"),
        2 => reply.complete(200, "<html>"),
        3 => reply.complete_with(503, "retry-after: 1", ""),
        _ => reply.complete(404, "{}"),
    })
    .await;
    world.record(1, "a", 1);
    world.has(5).await;
    sleep(Duration::from_millis(100)).await;
    for (result, count) in [("error", 2), ("conflict", 1), ("throttled", 1), ("gone", 1)] {
        assert_eq!(world.writes(result), count, "{result}");
    }
}

#[tokio::test]
async fn a_status_without_conditions_is_written_where_the_kind_has_none() {
    let undeclared = r#"{"kind": "Status", "status": "Failure", "code": 500,
        "message": "failed to create typed patch object: .status.conditions: field not declared in schema"}"#;
    let world = World::start(move |number, reply| match number {
        0 => reply.complete(500, undeclared),
        _ => reply.complete(200, WRITTEN),
    })
    .await;
    world.record(1, "a", 1);
    world.has(2).await;
    sleep(Duration::from_millis(100)).await;
    assert_eq!((world.writes("ok"), world.writes("error")), (1, 0));
}
