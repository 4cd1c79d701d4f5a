//! The line `# shows: …` of an input → the sections of its output.

use std::collections::BTreeSet;

use anyhow::Context as _;

/// A part of an output. All but the reports are below `resources`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Section {
    /// Problems and summary of each object. Without them the case must have no problems.
    Reports,
    Clusters,
    /// Connection managers, complete, by listener and filter chain.
    ConnectionManagers,
    Endpoints,
    /// Settings of HTTP filters, but for those that do nothing.
    Filters,
    /// Listeners, whose connection managers are reduced to the fields that differ from those of a plain Listener.
    Listeners,
    Routes,
    /// Which host names select which route tables.
    Scopes,
    Secrets,
}

impl Section {
    const ALL: [Self; 9] = [
        Self::Reports,
        Self::Clusters,
        Self::ConnectionManagers,
        Self::Endpoints,
        Self::Filters,
        Self::Listeners,
        Self::Routes,
        Self::Scopes,
        Self::Secrets,
    ];

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Reports => "reports",
            Self::Clusters => "clusters",
            Self::ConnectionManagers => "connection_managers",
            Self::Endpoints => "endpoints",
            Self::Filters => "filters",
            Self::Listeners => "listeners",
            Self::Routes => "routes",
            Self::Scopes => "scopes",
            Self::Secrets => "secrets",
        }
    }

    /// The sections that this input names.
    pub(crate) fn shown_by(input: &str) -> anyhow::Result<BTreeSet<Self>> {
        let known = Self::ALL.map(Self::name).join(", ");
        let names = header(input)
            .find_map(|line| line.strip_prefix("# shows:"))
            .with_context(|| {
                format!(
                    "add a line like `# shows: reports, routes` to the top of the input, with what the case is \
                     about; sections are {known}"
                )
            })?;
        names
            .split(',')
            .map(str::trim)
            .map(|name| {
                let section = Self::ALL.into_iter().find(|section| section.name() == name);
                section.with_context(|| {
                    format!("unknown section {name:?} in `# shows:`; sections are {known}")
                })
            })
            .collect()
    }
}

/// The comment lines at the top.
pub(crate) fn header(input: &str) -> impl Iterator<Item = &str> {
    input.lines().take_while(|line| line.starts_with('#'))
}
