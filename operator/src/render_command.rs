//! `nuncio render DIR`: the configuration of Envoy and the report of each object. For people before they apply manifests,
//! and for CI: the exit status is 1 if an object has a problem.

use std::{
    collections::BTreeMap,
    io::{Write as _, stdout},
    path::Path,
    process::ExitCode,
};

use anyhow::Context as _;
use nuncio_xds::{
    Resource, ResourceType, Unit, config_dump,
    ir::{FilterSettings, Ir},
    render_all,
};
use serde::Serialize;
use serde_json::Value;

use crate::files;
use nuncio_core::{change::Change, report::Report, settings::Settings, store::Store};

/// Output format.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// YAML, for people
    Yaml,
    /// JSON, for programs
    Json,
}

/// The configuration of Envoy and the report of each object.
#[derive(Debug, Serialize)]
pub struct Rendering {
    /// By object, as `Kind namespace/name`.
    pub reports: BTreeMap<String, Report>,
    /// By type of resource, then by name; private keys are redacted.
    pub resources: BTreeMap<String, BTreeMap<String, Value>>,
}

impl Rendering {
    /// Renders these objects.
    ///
    /// # Errors
    /// A resource that cannot be converted to JSON, which would be a bug.
    pub fn of(changes: Vec<Change>, settings: &Settings) -> anyhow::Result<Self> {
        let mut store = Store::new(settings.clone());
        for change in changes {
            store.apply(change);
        }
        store.link();
        let mut resources: BTreeMap<String, BTreeMap<String, Value>> = BTreeMap::new();
        for resource in render_all(store.ir()).filter(|resource| !is_off(resource, store.ir())) {
            let json = config_dump::to_json(&resource).with_context(|| {
                format!(
                    "cannot convert {} {:?} to JSON",
                    resource.kind, resource.name
                )
            })?;
            resources
                .entry(section(resource.kind).to_owned())
                .or_default()
                .insert(resource_name(&resource), json);
        }
        let reports = store
            .reports()
            .iter()
            .map(|(object, report)| (object.to_string(), report.as_ref().clone()))
            .collect();
        Ok(Self { reports, resources })
    }

    /// Whether every object is served as written.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        self.reports.values().all(Report::is_clean)
    }

    /// As text.
    ///
    /// # Errors
    /// A value that the format cannot represent, which would be a bug.
    pub fn to_text(&self, format: Format) -> anyhow::Result<String> {
        Ok(match format {
            Format::Json => serde_json::to_string_pretty(self)? + "\n",
            Format::Yaml => serde_saphyr::to_string(self)?,
        })
    }
}

/// Whether a resource is a filter that does nothing.
fn is_off(resource: &Resource, ir: &Ir) -> bool {
    match Unit::parse(resource.kind, &resource.name) {
        Some(Unit::Filter(filter)) => ir
            .filters
            .get(&filter)
            .is_some_and(|settings| **settings == FilterSettings::Off),
        _ => false,
    }
}

fn resource_name(resource: &Resource) -> String {
    resource.name.to_string()
}

const fn section(kind: ResourceType) -> &'static str {
    match kind {
        ResourceType::Cluster => "clusters",
        ResourceType::Endpoints => "endpoints",
        ResourceType::Secret => "secrets",
        ResourceType::Filter => "filters",
        ResourceType::Listener => "listeners",
        ResourceType::Scope => "scopes",
        ResourceType::RouteTable => "routes",
    }
}

/// Renders a directory to standard output. Exits with status 1 if an object has a problem.
///
/// # Errors
/// A directory that cannot be read.
pub fn run(directory: &Path, format: Format, settings: &Settings) -> anyhow::Result<ExitCode> {
    let changes = files::load(&files::Directory::served(directory), settings)?;
    let rendering = Rendering::of(changes, settings)?;
    stdout().write_all(rendering.to_text(format)?.as_bytes())?;
    Ok(if rendering.is_clean() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}
