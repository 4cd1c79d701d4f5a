//! Objects of the apiserver, made many at once.

use anyhow::Result;
use futures::{StreamExt as _, TryStreamExt as _, stream};
use kube::{
    Api, Client,
    api::{ApiResource, DynamicObject, PostParams},
};
use serde_json::Value;

/// How many requests to the apiserver are under way.
const CONCURRENCY: usize = 16;

/// A kind of ours, in the namespace of the benchmark.
pub(super) fn kind(client: &Client, kind: &str, plural: &str) -> Api<DynamicObject> {
    let resource = ApiResource {
        group: "getambassador.io".to_owned(),
        version: "v3alpha1".to_owned(),
        api_version: "getambassador.io/v3alpha1".to_owned(),
        kind: kind.to_owned(),
        plural: plural.to_owned(),
    };
    Api::namespaced_with(client.clone(), "default", &resource)
}

/// Secrets, in the namespace of the benchmark.
pub(super) fn secrets(client: &Client) -> Api<DynamicObject> {
    let resource = ApiResource::erase::<k8s_openapi::api::core::v1::Secret>(&());
    Api::namespaced_with(client.clone(), "default", &resource)
}

/// Creates an object.
pub(super) async fn create(api: &Api<DynamicObject>, object: Value) -> Result<()> {
    let object = serde_json::from_value(object)?;
    api.create(&PostParams::default(), &object).await?;
    Ok(())
}

/// Does something with each of these numbers, several at a time.
pub(super) async fn for_each<F: Future<Output = Result<()>>>(
    numbers: impl Iterator<Item = usize>,
    action: impl Fn(usize) -> F,
) -> Result<()> {
    stream::iter(numbers)
        .map(action)
        .buffer_unordered(CONCURRENCY)
        .try_collect()
        .await
}
