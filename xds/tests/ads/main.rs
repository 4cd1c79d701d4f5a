//! The ADS server over real sockets, with gRPC clients and with Envoy 1.40.
//!
//! The path of Envoy is `$ENVOY`, or where `make tools` installs it. Without Envoy these tests fail.

mod authorize;
mod binding;
mod client;
mod config;
mod connection_limit;
mod envoy;
mod grpc;
mod http;
mod quarantine;
mod real_envoy;
mod scopes;
mod server;
mod warming;
