//! Key `defaults`: values for fields of Mappings and TLSContexts that do not set them. Those under `httpmapping` precede
//! those without a class.

use std::collections::BTreeMap;

use nuncio_crds::field::AddedHeader;
use serde_json::Value;

use super::config::Config;
use crate::{
    defaults::MappingDefaults,
    reconcile::{AddedHeaders, mapping::header},
    report::Problem,
};

/// The values.
pub(super) struct Section {
    pub(super) mapping: MappingDefaults,
    /// Whether names of Secrets in TLSContexts can have a namespace.
    pub(super) secrets_have_namespaces: bool,
}

pub(super) fn defaults(config: &mut Config<'_>) -> Section {
    let found = config.section("defaults", |defaults| {
        let of_class = defaults.section("httpmapping", values).unwrap_or_default();
        let of_none = values(defaults);
        let mapping = MappingDefaults {
            stat_name: of_class.stat_name.or(of_none.stat_name),
            add_request_headers: of_class.add_request_headers.or(of_none.add_request_headers),
            add_response_headers: of_class
                .add_response_headers
                .or(of_none.add_response_headers),
            remove_request_headers: of_class
                .remove_request_headers
                .or(of_none.remove_request_headers),
            remove_response_headers: of_class
                .remove_response_headers
                .or(of_none.remove_response_headers),
        };
        Section {
            mapping,
            secrets_have_namespaces: defaults.boolean("tls_secret_namespacing", true),
        }
    });
    found.unwrap_or_else(|| Section {
        mapping: MappingDefaults::default(),
        secrets_have_namespaces: true,
    })
}

fn values(defaults: &mut Config<'_>) -> MappingDefaults {
    MappingDefaults {
        stat_name: defaults.text("stats_name").map(str::to_owned),
        add_request_headers: added(defaults, "add_request_headers"),
        add_response_headers: added(defaults, "add_response_headers"),
        remove_request_headers: removed(defaults, "remove_request_headers"),
        remove_response_headers: removed(defaults, "remove_response_headers"),
    }
}

/// Headers; a text alone stands for a value.
fn added(defaults: &mut Config<'_>, key: &'static str) -> Option<AddedHeaders> {
    let mut headers: BTreeMap<String, AddedHeader> = BTreeMap::new();
    for (name, value) in defaults.map(key)? {
        let header = match value {
            Value::String(text) => Some(AddedHeader {
                value: Some(text.clone()),
                ..AddedHeader::default()
            }),
            other => defaults.convert(&format!("{key}[{name}]"), other.clone()),
        };
        headers.extend(header.map(|header| (name.clone(), header)));
    }
    let mut problems: Vec<Problem> = Vec::new();
    let found = header::added(
        &defaults.path(key),
        &headers,
        defaults.envoy(),
        &mut problems,
    );
    defaults.report_all(problems);
    Some(found)
}

fn removed(defaults: &mut Config<'_>, key: &'static str) -> Option<Vec<String>> {
    let names = defaults.texts(key)?;
    let mut problems = Vec::new();
    let found = header::removed(&defaults.path(key), &names, &mut problems);
    defaults.report_all(problems);
    Some(found)
}
