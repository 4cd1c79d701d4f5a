//! The rim of Nuncio, which does the I/O, and its commands; modules are in the order of the pipeline:
//!
//! ```text
//!  apiserver, files, Consul                                                     Envoy
//!        │                                                                        ▲
//!   watch, files ─► nuncio_core ──dirty units──► nuncio_xds::render ─► cache ─► ads
//!        status ◄──────┘ (reports)          publish is the loop that joins them
//! ```

pub mod api;
pub mod client;
pub mod consul;
pub mod directories;
pub mod fan_out;
pub mod files;
pub mod istio;
mod text_file;
pub mod watch;

pub mod gateway;
pub mod journal;
pub mod publish;

pub mod default_listeners;
pub mod leader;
pub mod status;
pub mod unsupported;

pub mod identity;
pub mod ingress_status;
pub mod owner_events;

mod descriptors;
pub mod health;
pub mod http_server;
pub mod metrics;
mod printable;
mod statsd;
pub mod telemetry;

pub mod apiext;
pub mod args;
pub mod bootstrap_command;
pub mod demo;
pub mod echo;
pub mod envoy;
pub mod envoy_command;
pub mod migrate_storage;
pub mod render_command;
pub mod run;
