//! Test tools: a real Kubernetes control plane and a real Envoy in a sandbox, and the clients and backends to test them.

pub mod backend;
pub mod balancer;
pub mod bench;
pub mod certificate_server;
pub mod chaos;
pub mod client;
pub mod consul;
pub mod control_plane;
pub mod etcd;
pub mod fault_proxy;
pub mod fuzz;
pub mod gateway;
pub mod instance;
pub mod kubectl;
pub mod node;
pub mod permissions;
pub mod process;
pub mod relay;
pub mod sandbox;
pub mod seeded;
pub mod traffic;
pub mod workspace;

pub use nuncio_kat::{certificate, wait};
