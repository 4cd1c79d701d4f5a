//! Resolvers: how to find the addresses of a service.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::field::conditions;

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

/// Resolver that routes to the passing instances of a Consul service.
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "getambassador.io",
    version = "v3alpha1",
    kind = "ConsulResolver",
    plural = "consulresolvers",
    namespaced,
    category = "ambassador-crds",
    category = "nuncio",
    status = "ConsulResolverStatus",
    derive = "PartialEq",
    doc = "Resolver that routes to the passing instances of a Consul service.",
    printcolumn = r#"{"name":"Address","type":"string","jsonPath":".spec.address"}"#,
    printcolumn = r#"{"name":"Datacenter","type":"string","jsonPath":".spec.datacenter"}"#
)]
pub struct ConsulResolverSpec {
    /// IDs of the instances this applies to. Default: `default`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ambassador_id: Vec<String>,
    /// Address of the Consul agent: `host:port`, optionally with `http://` or `https://`, or `unix:///path`. `$NAME` and
    /// `${NAME}` are replaced by environment variables of the control plane. Default: its `CONSUL_HTTP_ADDR`, else
    /// `127.0.0.1:8500`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub address: Option<String>,
    /// Consul datacenter. Required.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub datacenter: Option<String>,
    /// Secret in the namespace of the resolver with the ACL token (`token`). Default: that of the environment of the
    /// control plane.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub token_secret: Option<String>,
    /// Secret in the namespace of the resolver with the CA certificates (`tls.crt` or `ca.crt`) that the agent's
    /// certificate is verified with; connects with TLS. Default: those of the environment of the control plane, else of its
    /// system.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ca_secret: Option<String>,
    /// Secret in the namespace of the resolver with a client certificate and its private key (`tls.crt`, `tls.key`);
    /// connects with TLS. Default: that of the environment of the control plane.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls_secret: Option<String>,
    /// TLS server name (SNI) of the agent, which its certificate must have; connects with TLS. Default: the host of
    /// `address`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sni: Option<String>,
}

/// Status of a ConsulResolver.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ConsulResolverStatus {
    /// Conditions `Accepted`, `ResolvedRefs` and `Programmed`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "conditions")]
    pub conditions: Vec<Condition>,
}
