//! The Envoy side: the gateway model ([`ir`]), its rendering to xDS resources ([`render`]), their versioned snapshots
//! ([`cache`]) and the ADS server that streams them ([`ads`]). Does not depend on Kubernetes.
//!
//! The modules are listed in the order of the pipeline.

pub mod render;

pub mod encodings;
pub mod per_fleet;
pub mod resource;
pub mod snapshot;
pub mod socket;
pub mod throttle;
pub mod tls;

pub mod cache;
pub mod fleet;
pub mod quarantine;

pub mod ads;
pub mod bootstrap;
pub mod config_dump;

pub use nuncio_ir::{self as ir, ResourceType, Unit};
pub use render::{render, render_all};
pub use resource::{Resource, Version};

/// Envoy's protobuf messages.
pub use envoy_types::pb;
