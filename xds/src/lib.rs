//! What Envoy is told: the gateway model ([`ir`]), its rendering to Envoy's messages ([`render`]), the versioned
//! snapshot ([`cache`]) and the ADS server that streams it ([`ads`]). Knows nothing of Kubernetes.
//!
//! The modules are listed in the order of the pipeline.

pub mod ir;
pub mod unit;

pub mod render;

pub mod resource;
pub mod snapshot;

pub mod cache;
pub mod fleet;

pub mod ads;
pub mod bootstrap;
pub mod config_dump;

pub use render::render;
pub use resource::{Resource, ResourceType, Version};
pub use unit::Unit;

/// Envoy's protobuf messages.
pub use envoy_types::pb;
