//! Resolvers: names for a way to find the addresses of a service.

use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The address of a Kubernetes Service.
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
    doc = "A name for: requests go to the address of a Kubernetes Service."
)]
pub struct KubernetesServiceResolverSpec {
    /// Instances that this is for, by their ids. Default: `default`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ambassador_id: Vec<String>,
}

/// The addresses of the pods of a Kubernetes Service.
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
    doc = "A name for: requests go to the pods of a Kubernetes Service."
)]
pub struct KubernetesEndpointResolverSpec {
    /// Instances that this is for, by their ids. Default: `default`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ambassador_id: Vec<String>,
}
