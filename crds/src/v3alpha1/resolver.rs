//! Resolvers: how to find the addresses of a service.

use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Resolver that routes to the cluster IP of a Kubernetes Service.
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "getambassador.io",
    version = "v3alpha1",
    kind = "KubernetesServiceResolver",
    plural = "kubernetesserviceresolvers",
    namespaced,
    category = "ambassador-crds",
    category = "nuncio",
    derive = "PartialEq",
    doc = "Resolver that routes to the cluster IP of a Kubernetes Service."
)]
pub struct KubernetesServiceResolverSpec {
    /// IDs of the instances this applies to. Default: `default`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ambassador_id: Vec<String>,
}

/// Resolver that routes to the endpoints of a Kubernetes Service.
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "getambassador.io",
    version = "v3alpha1",
    kind = "KubernetesEndpointResolver",
    plural = "kubernetesendpointresolvers",
    namespaced,
    category = "ambassador-crds",
    category = "nuncio",
    derive = "PartialEq",
    doc = "Resolver that routes to the endpoints of a Kubernetes Service."
)]
pub struct KubernetesEndpointResolverSpec {
    /// IDs of the instances this applies to. Default: `default`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ambassador_id: Vec<String>,
}
