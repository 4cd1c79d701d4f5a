//! The custom resources of `getambassador.io`: what users write. Types with their schemas, no I/O.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::CustomResourceExt as _;

mod definition;
pub mod field;
pub mod v3alpha1;

/// API group of every kind here.
pub const GROUP: &str = "getambassador.io";

/// Definitions of all kinds, in the order of their names, as clusters get them.
#[must_use]
pub fn all() -> Vec<CustomResourceDefinition> {
    [
        v3alpha1::Host::crd(),
        v3alpha1::KubernetesEndpointResolver::crd(),
        v3alpha1::KubernetesServiceResolver::crd(),
        v3alpha1::Listener::crd(),
        v3alpha1::Mapping::crd(),
        v3alpha1::TCPMapping::crd(),
        v3alpha1::TLSContext::crd(),
    ]
    .map(definition::finished)
    .into()
}
