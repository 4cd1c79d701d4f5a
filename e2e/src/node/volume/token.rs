//! Service-account tokens, bound to the Pod that they are for, and renewed before they expire.

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use k8s_openapi::api::core::v1::{Pod, ServiceAccount, ServiceAccountTokenProjection};
use kube::{Api, ResourceExt as _, api::PostParams};
use serde_json::{Value, json};

use super::super::Shared;

/// The tokens of one Pod.
pub(super) struct Tokens {
    shared: Arc<Shared>,
    known: BTreeMap<(Option<String>, String), Token>,
}

struct Token {
    text: String,
    generation: u64,
    renew_at: Instant,
}

impl Tokens {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self {
            shared,
            known: BTreeMap::new(),
        }
    }

    /// The token for a projection. One that cannot be renewed is kept.
    pub(super) async fn current(
        &mut self,
        pod: &Pod,
        projection: &ServiceAccountTokenProjection,
    ) -> Result<String> {
        let key = (projection.audience.clone(), projection.path.clone());
        let generation = *self.shared.tokens.borrow();
        let known = self.known.get(&key);
        if let Some(token) = known
            && token.generation == generation
            && Instant::now() < token.renew_at
        {
            return Ok(token.text.clone());
        }
        match self.request(pod, projection).await {
            Ok((text, lifetime)) => {
                let token = Token {
                    text: text.clone(),
                    generation,
                    renew_at: Instant::now() + lifetime.mul_f64(0.8),
                };
                self.known.insert(key, token);
                Ok(text)
            }
            Err(error) => match known {
                Some(token) => Ok(token.text.clone()),
                None => Err(error),
            },
        }
    }

    async fn request(
        &self,
        pod: &Pod,
        projection: &ServiceAccountTokenProjection,
    ) -> Result<(String, Duration)> {
        let account = pod
            .spec
            .as_ref()
            .and_then(|spec| spec.service_account_name.clone());
        let account = account.unwrap_or_else(|| "default".to_owned());
        let lifetime = projection.expiration_seconds.unwrap_or(3600);
        let request = json!({
            "apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest",
            "spec": {
                "audiences": projection.audience.iter().collect::<Vec<_>>(),
                "expirationSeconds": lifetime,
                "boundObjectRef": {
                    "apiVersion": "v1", "kind": "Pod", "name": pod.name_any(), "uid": pod.uid(),
                },
            },
        });
        let namespace = pod.namespace().unwrap_or_default();
        let client = self.shared.cluster.client.clone();
        let accounts: Api<ServiceAccount> = Api::namespaced(client, &namespace);
        let answer: Value = accounts
            .create_subresource("token", &account, &PostParams::default(), &request)
            .await
            .with_context(|| format!("no token for ServiceAccount {namespace}/{account}"))?;
        let text = answer["status"]["token"].as_str();
        let text = text.context("the answer has no token")?.to_owned();
        Ok((text, Duration::from_secs(lifetime.unsigned_abs())))
    }
}
