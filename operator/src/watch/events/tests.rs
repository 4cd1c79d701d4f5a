use std::{
    sync::atomic::{AtomicUsize, Ordering},
    time::Instant,
};

use k8s_openapi::api::core::v1::ConfigMap;
use tokio::time::timeout;

use super::*;
use crate::client::{Limits, testing::Apiserver};

const SHORT: Limits = Limits {
    connect: Duration::from_secs(1),
    answer: Duration::from_millis(300),
    list: Duration::from_millis(300),
    idle: Duration::from_millis(300),
    pace: Duration::from_millis(50),
};

fn events(apiserver: &Apiserver) -> Events<ConfigMap> {
    Events::new(Api::all(apiserver.client(SHORT)), config())
}

/// The next event, as text.
async fn next(events: &mut Events<ConfigMap>) -> String {
    let name = |object: ConfigMap| object.metadata.name.unwrap_or_default();
    let event = timeout(Duration::from_secs(10), events.next()).await;
    match event.expect("an event") {
        Ok(Event::Init) => "init".to_owned(),
        Ok(Event::InitApply(object)) => format!("init {}", name(object)),
        Ok(Event::InitDone) => "done".to_owned(),
        Ok(Event::Apply(object)) => format!("apply {}", name(object)),
        Ok(Event::Delete(object)) => format!("delete {}", name(object)),
        Err(error) => format!("error {error}"),
    }
}

const FORBIDDEN: &str = r#"{"kind":"Status","status":"Failure","reason":"Forbidden","code":403}"#;
const GONE: &str = r#"{"kind":"Status","status":"Failure","reason":"Expired","code":410}"#;
const LIST: &str =
    r#"{"kind":"ConfigMapList","apiVersion":"v1","metadata":{"resourceVersion":"7"},"items":[]}"#;
const ADDED: &str =
    "{\"type\":\"ADDED\",\"object\":{\"metadata\":{\"name\":\"a\",\"resourceVersion\":\"8\"}}}\n";

#[tokio::test]
async fn a_list_that_always_fails_is_requested_with_growing_pauses() {
    let apiserver = Apiserver::start(|_path, answer| answer.complete(403, FORBIDDEN)).await;
    let mut events = events(&apiserver);
    let start = Instant::now();
    while start.elapsed() < Duration::from_millis(1400) {
        let _ = timeout(Duration::from_millis(1400), events.next()).await;
    }
    // after pauses of at least 100, 200, 400 and 800 ms
    let requests = apiserver.requests();
    assert!((2..=5).contains(&requests), "{requests} requests");
}

#[tokio::test]
async fn a_watch_that_has_expired_begins_with_a_list() {
    let apiserver = Apiserver::start(|path, answer| {
        if path.contains("watch=true") {
            answer.complete(410, GONE);
        } else {
            answer.complete(200, LIST);
        }
    })
    .await;
    let mut events = events(&apiserver);
    for _ in 0..3 {
        assert_eq!(next(&mut events).await, "init");
        assert_eq!(next(&mut events).await, "done");
        let error = next(&mut events).await;
        assert!(error.contains("Expired"), "{error}");
    }
}

#[tokio::test]
async fn a_list_that_is_never_answered_is_requested_again() {
    let count = AtomicUsize::new(0);
    let apiserver = Apiserver::start(move |path, answer| {
        if path.contains("watch=true") || count.fetch_add(1, Ordering::SeqCst) == 0 {
            answer.never();
        } else {
            answer.complete(200, LIST);
        }
    })
    .await;
    let mut events = events(&apiserver);
    assert_eq!(next(&mut events).await, "init");
    let error = next(&mut events).await;
    assert!(error.contains("initial object list"), "{error}");
    assert_eq!(next(&mut events).await, "init");
    assert_eq!(next(&mut events).await, "done");
}

/// The apiserver, or what stands before it, keeps the connection and sends nothing.
#[tokio::test]
async fn a_change_arrives_although_the_watch_went_silent() {
    let count = AtomicUsize::new(0);
    let apiserver = Apiserver::start(move |path, answer| {
        if !path.contains("watch=true") {
            answer.complete(200, LIST);
        } else if count.fetch_add(1, Ordering::SeqCst) == 0 {
            answer.begin("");
        } else {
            answer.begin(ADDED);
        }
    })
    .await;
    let mut events = events(&apiserver);
    assert_eq!(next(&mut events).await, "init");
    assert_eq!(next(&mut events).await, "done");
    let start = Instant::now();
    let error = next(&mut events).await;
    assert!(error.contains("watch stream failed"), "{error}");
    assert_eq!(next(&mut events).await, "apply a");
    assert!(start.elapsed() < Duration::from_secs(2));
}

#[tokio::test]
async fn a_watch_that_is_answered_with_nothing_does_not_spin() {
    let apiserver = Apiserver::start(|path, answer| {
        let body = if path.contains("watch=true") {
            ""
        } else {
            LIST
        };
        answer.complete(200, body);
    })
    .await;
    let mut events = events(&apiserver);
    let run = async { while events.next().await.is_ok() {} };
    assert!(timeout(Duration::from_millis(500), run).await.is_err());
    let requests = apiserver.requests();
    assert!((3..=12).contains(&requests), "{requests} requests");
}

#[test]
fn pauses_grow_to_five_seconds_at_most_and_never_end() {
    let backoff: ExponentialBackoff = BACKOFF.into();
    let pauses: Vec<Duration> = backoff.take(100).collect();
    assert_eq!(pauses.len(), 100);
    assert!(pauses[0] <= Duration::from_millis(200), "{pauses:?}");
    assert!(pauses[99] >= Duration::from_millis(2500), "{pauses:?}");
    assert!(
        pauses.iter().all(|pause| *pause <= Duration::from_secs(5)),
        "{pauses:?}"
    );
}
