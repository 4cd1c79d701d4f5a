//! What a Module adds: settings of the whole gateway.

use std::{collections::BTreeMap, sync::Arc};

use nuncio_ir::{FilterSettings, HttpFilter, HttpOptions};

use super::{Mapping, Part, served};
use crate::{
    defaults::{Defaults, access_log::Log},
    reconcile::regex::DEFAULT_PROGRAM_SIZE,
};

/// Settings of the whole gateway.
#[derive(Clone, Debug, PartialEq)]
pub struct Module {
    /// Values for what other objects do not set.
    pub defaults: Defaults,
    /// The resolver that is used by default.
    pub resolver: Option<Arc<str>>,
    /// Maximum size of the programs of regular expressions.
    pub regex_max_size: usize,
    /// Settings of HTTP connections.
    pub http: HttpOptions,
    /// Filters that are used, with their settings if they have any; without that of the script.
    pub filters: BTreeMap<HttpFilter, Option<FilterSettings>>,
    /// The Lua script for all requests, checked: it loads. What is remembered of it can be that there was none.
    pub script: Part<Option<String>>,
    /// Bytes that are buffered for a connection in each direction.
    pub buffer_limit_bytes: Option<u32>,
    /// The access log that Envoy writes itself.
    pub log: Log,
    /// Paths on every Host that are about the gateway itself.
    pub probes: Vec<Probe>,
}

/// A path on every Host that is about the gateway itself.
#[derive(Clone, Debug, PartialEq)]
pub struct Probe {
    /// Name of the route.
    pub name: String,
    /// Prefix of the path.
    pub prefix: String,
    /// How requests are forwarded; `None`: Envoy answers 200.
    pub mapping: Option<Arc<Mapping>>,
}

impl Module {
    /// The filter of the script, if there is one. A script may deny requests, so that without the right one they are all
    /// denied.
    #[must_use]
    pub fn script_filter(&self) -> Option<FilterSettings> {
        match served(&self.script) {
            Some(script) => script.clone().map(FilterSettings::Lua),
            None => Some(FilterSettings::ScriptError),
        }
    }
}

impl Default for Module {
    fn default() -> Self {
        let probe = |kind: &str, path: &str| Probe {
            name: format!("internal_{kind}_probe_mapping"),
            prefix: format!("/ambassador/v0/{path}"),
            mapping: None,
        };
        Self {
            defaults: Defaults::default(),
            resolver: None,
            regex_max_size: DEFAULT_PROGRAM_SIZE,
            http: HttpOptions::default(),
            filters: BTreeMap::new(),
            script: Ok(None),
            buffer_limit_bytes: None,
            log: Log::default(),
            probes: vec![
                probe("liveness", "check_alive"),
                probe("readiness", "check_ready"),
            ],
        }
    }
}
