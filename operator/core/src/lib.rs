//! The pure middle of the control plane: objects go in as changes, the gateway model and a report for each object come
//! out. No I/O, no clock, no client of any kind.
//!
//! ```text
//!  object ─► reconcile ─► Change ─► Store ─► Ir, dirty units, Reports
//! ```

pub mod annotation;
pub mod change;
pub mod consul;
pub mod defaults;
pub mod glob;
pub mod last_usable;
pub mod object;
pub mod report;
pub mod selector;
pub mod settings;
pub mod variable;
pub mod yaml;

pub mod reconcile;
pub mod store;
