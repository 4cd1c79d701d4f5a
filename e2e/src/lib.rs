//! Test tools: a real control plane of Kubernetes and a real Envoy in a namespace of their own, and what it takes to
//! drive and observe them.

pub mod backend;
pub mod bench;
pub mod client;
pub mod control_plane;
pub mod fuzz;
pub mod gateway;
pub mod instance;
pub mod kubectl;
pub mod process;
pub mod sandbox;
pub mod workspace;

pub use nuncio_kat::{certificate, wait};
