//! The cluster side of Nuncio and its commands, in the order of the pipeline:
//!
//! ```text
//!  apiserver, files                                                             Envoy
//!        │                                                                        ▲
//!   watch, files ─► reconcile ─► store ──dirty units──► nuncio_xds::render ─► cache ─► ads
//!        status ◄──────────────────┘ (reports)          publish is the loop that joins them
//! ```

pub mod change;
pub mod glob;
pub mod object;
pub mod report;
pub mod selector;
pub mod settings;

pub mod files;
pub mod istio;
pub mod leader;
pub mod publish;
pub mod reconcile;
pub mod status;
pub mod store;
pub mod watch;

pub mod health;
pub mod metrics;
pub mod telemetry;

pub mod args;
pub mod bootstrap_command;
pub mod demo;
pub mod echo;
pub mod envoy;
pub mod render_command;
pub mod run;
