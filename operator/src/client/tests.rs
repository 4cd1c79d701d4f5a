use k8s_openapi::api::core::v1::Secret;
use kube::Api;
use tokio::time::Instant;

use super::{testing::Apiserver, *};

const SHORT: Limits = Limits {
    connect: Duration::from_secs(1),
    answer: Duration::from_millis(200),
    list: Duration::from_millis(600),
    idle: Duration::from_millis(200),
    pace: Duration::from_millis(50),
};

#[tokio::test]
async fn a_request_that_is_never_answered_fails() {
    let apiserver = Apiserver::start(|_path, answer| answer.never()).await;
    let api: Api<Secret> = Api::default_namespaced(apiserver.client(SHORT));
    let start = Instant::now();
    let error = api.get("a").await.unwrap_err();
    assert!(format!("{error:?}").contains("Unanswered"), "{error:?}");
    assert!(start.elapsed() < Duration::from_millis(500));
    let list = api.list(&kube::api::ListParams::default().limit(5)).await;
    assert!(list.is_err());
    assert!(
        start.elapsed() >= Duration::from_millis(700),
        "lists may take longer"
    );
}

#[tokio::test]
async fn an_answer_that_stops_in_the_middle_fails() {
    let apiserver = Apiserver::start(|_path, answer| answer.begin("{")).await;
    let api: Api<Secret> = Api::default_namespaced(apiserver.client(SHORT));
    let answer = timeout(Duration::from_secs(10), api.get("a")).await;
    let error = answer.expect("it waits for the rest").unwrap_err();
    assert!(format!("{error:?}").contains("Stalled"), "{error:?}");
}

#[test]
fn a_change_is_late_by_less_than_half_a_minute() {
    let limits = Limits::default();
    let watch = Duration::from_secs(u64::from(WATCH));
    assert!(limits.idle > watch, "the apiserver ends a watch first");
    // a watch that died at its start, then a new connection
    assert!(limits.idle + limits.connect < Duration::from_secs(30));
}
