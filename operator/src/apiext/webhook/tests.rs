use axum::body::to_bytes;
use futures::stream;
use serde_json::{Value, json};

use super::*;
use crate::apiext::connections::tests::busy;

fn webhook() -> Arc<Webhook> {
    Arc::new(Webhook {
        arrival: Duration::from_secs(1),
        ..Webhook::new(Metrics::new().0)
    })
}

async fn answer(webhook: &Arc<Webhook>, request: Request<Body>) -> (u16, String) {
    let response = webhook.clone().answer(request, busy()).await;
    let status = response.status().as_u16();
    let body = to_bytes(response.into_body(), usize::MAX).await.unwrap();
    (status, String::from_utf8(body.to_vec()).unwrap())
}

fn post(body: Body) -> Request<Body> {
    Request::post(PATH).body(body).unwrap()
}

fn review(objects: usize, padding: usize) -> String {
    let objects: Vec<Value> = (0..objects)
        .map(|number| {
            json!({
                "apiVersion": "getambassador.io/v2", "kind": "Mapping",
                "metadata": {"name": number.to_string(), "annotations": {"padding": "x".repeat(padding)}},
                "spec": {"prefix": "/", "service": "s", "host": "h"},
            })
        })
        .collect();
    json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "ConversionReview",
        "request": {"uid": "u", "desiredAPIVersion": "getambassador.io/v3alpha1", "objects": objects},
    })
    .to_string()
}

#[tokio::test]
async fn short_and_long_reviews_are_answered() {
    let webhook = webhook();
    for (objects, padding) in [(1, 0), (500, 1000), (5, 1 << 20)] {
        let (status, body) = answer(&webhook, post(review(objects, padding).into())).await;
        let body: Value = serde_json::from_str(&body).unwrap();
        assert_eq!(status, 200);
        let converted = body["response"]["convertedObjects"].as_array().unwrap();
        assert_eq!(converted.len(), objects);
        assert_eq!(converted[0]["spec"]["hostname"], "h");
    }
    // all shares are given back
    assert_eq!(webhook.budget.available_permits(), BUDGET as usize);
    assert_eq!(webhook.converted.available_permits(), CONVERTED as usize);
    assert_eq!(webhook.large.available_permits(), 1);
}

#[tokio::test]
async fn requests_that_are_no_reviews_are_rejected() {
    let webhook = webhook();
    let long = Body::from_stream(stream::repeat_with(|| {
        Ok::<_, std::io::Error>(Bytes::from_static(&[b' '; 1 << 16]))
    }));
    let mut announced = post(Body::empty());
    let length = (LONGEST + 1).into();
    announced
        .headers_mut()
        .insert(header::CONTENT_LENGTH, length);
    let broken = Body::from_stream(stream::iter([Err::<Bytes, _>(std::io::Error::other(
        "reset",
    ))]));
    let silent = Body::from_stream(stream::pending::<Result<Bytes, std::io::Error>>());
    for (request, status, text) in [
        (
            Request::post("/").body(Body::empty()).unwrap(),
            404,
            "not found",
        ),
        (
            Request::get(PATH).body(Body::empty()).unwrap(),
            405,
            "use POST",
        ),
        (post("garbage".into()), 400, "not a ConversionReview"),
        (post(broken), 400, "incomplete"),
        (post(silent), 408, "did not arrive within"),
        (announced, 413, "longer than"),
        (post(long), 413, "longer than"),
    ] {
        let found = answer(&webhook, request).await;
        assert!(found.0 == status && found.1.contains(text), "{found:?}");
    }
    assert_eq!(webhook.budget.available_permits(), BUDGET as usize);
    assert_eq!(webhook.large.available_permits(), 1);
}

#[tokio::test]
async fn short_reviews_do_not_wait_for_long_ones() {
    let webhook = webhook();
    let _all = webhook.budget.clone().acquire_many_owned(BUDGET).await;
    let _large = webhook.large.clone().acquire_owned().await;
    let (status, _) = answer(&webhook, post(review(1, 0).into())).await;
    assert_eq!(status, 200);
    for padding in [1 << 20, 5 << 20] {
        let found = answer(&webhook, post(review(1, padding).into())).await;
        assert!(found.0 == 503 && found.1.contains("too many"), "{found:?}");
    }
}

#[tokio::test]
async fn an_answer_has_its_share_until_it_is_written() {
    let webhook = webhook();
    let request = post(review(1, 1 << 20).into());
    let response = webhook.clone().answer(request, busy()).await;
    assert!(webhook.budget.available_permits() < BUDGET as usize);
    drop(response);
    assert_eq!(webhook.budget.available_permits(), BUDGET as usize);
}
