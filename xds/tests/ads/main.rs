//! The ADS server through real sockets: by hand-written gRPC clients, and by Envoy 1.40.
//!
//! Envoy is found by the variable `ENVOY`, or where `make tools` puts it; without it these tests fail.

mod client;
mod config;
mod envoy;
mod grpc;
mod http;
mod real_envoy;
mod server;
