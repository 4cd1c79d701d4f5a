//! One input, one output: `testdata/AREA/CASE.in.yaml` is rendered and compared with `CASE.out.yaml`.
//! `UPDATE_GOLDEN=1` writes the outputs instead; the diff is then read like code.
//!
//! An input is what a user would apply. Comments at its top configure the case:
//!
//! - `# shows: reports, routes` lists the sections of the output, see [`Section`]. Required.
//! - `# with probes` keeps the routes of probes that every virtual host has; without it they are left out.
//! - `# in cluster` renders as in a cluster, where a Service that is not in the input does not exist.

#[path = "golden/connection_manager.rs"]
mod connection_manager;
#[path = "golden/section.rs"]
mod section;

use std::{collections::BTreeMap, env, fs, path::Path};

use anyhow::Context as _;
use nuncio::{files, render_command::Rendering};
use nuncio_core::{
    report::{Reason, Report, Severity},
    settings::Settings,
};
use section::Section;
use serde::Serialize;
use serde_json::Value;
use similar::TextDiff;

datatest_stable::harness! {
    { test = matches_output, root = "tests/testdata", pattern = r"\.in\.yaml$" },
    { test = problems_fit_their_severity, root = "tests/testdata", pattern = r"\.in\.yaml$" },
    { test = has_input, root = "tests/testdata", pattern = r"\.out\.yaml$" },
}

/// Compares the rendering with the stored output; `UPDATE_GOLDEN=1` stores it instead.
fn matches_output(input: &Path) -> datatest_stable::Result<()> {
    let output = input.to_string_lossy().replace(".in.yaml", ".out.yaml");
    let actual = output_of(&fs::read_to_string(input)?)?;
    if env::var_os("UPDATE_GOLDEN").is_some() {
        return Ok(fs::write(output, actual)?);
    }
    let expected = fs::read_to_string(&output).unwrap_or_default();
    if expected == actual {
        return Ok(());
    }
    eprintln!(
        "{}",
        TextDiff::from_lines(&expected, &actual)
            .unified_diff()
            .header(&output, "now")
    );
    Err("run with UPDATE_GOLDEN=1, then review the diff".into())
}

/// The sections of a rendering that a case shows. One without any content is there all the same: `clusters: {}`.
#[derive(Serialize)]
struct Output {
    #[serde(skip_serializing_if = "Option::is_none")]
    reports: Option<BTreeMap<String, Report>>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    resources: BTreeMap<&'static str, BTreeMap<String, Value>>,
}

fn output_of(input: &str) -> anyhow::Result<String> {
    let sections = Section::shown_by(input)?;
    let Rendering {
        reports,
        mut resources,
    } = rendering(input)?;
    let shows_reports = sections.contains(&Section::Reports);
    anyhow::ensure!(
        shows_reports || reports.values().all(Report::is_clean),
        "some objects have problems: add reports to the line `# shows:`"
    );
    if !section::header(input).any(|line| line == "# with probes") {
        let routes = resources.entry("routes".to_owned()).or_default();
        routes.values_mut().for_each(leave_probes_out);
    }
    let listeners = resources.entry("listeners".to_owned()).or_default();
    let managers = connection_manager::take(listeners, &plain_connection_manager()?);
    resources.insert("connection_managers".to_owned(), managers);
    Ok(serde_saphyr::to_string(&Output {
        reports: shows_reports.then_some(reports),
        resources: sections
            .iter()
            .filter(|section| **section != Section::Reports)
            .map(|section| {
                (
                    section.name(),
                    resources.remove(section.name()).unwrap_or_default(),
                )
            })
            .collect(),
    })?)
}

/// Removes the routes of probes, and lists that have nothing else.
fn leave_probes_out(value: &mut Value) {
    const PATHS: [&str; 2] = ["/ambassador/v0/check_alive", "/ambassador/v0/check_ready"];
    let is_probe = |item: &Value| PATHS.iter().any(|path| item["match"]["prefix"] == *path);
    match value {
        Value::Array(items) => {
            items.retain(|item| !is_probe(item));
            items.iter_mut().for_each(leave_probes_out);
        }
        Value::Object(fields) => fields.retain(|_, field| {
            let was_empty = field.as_array().is_some_and(Vec::is_empty);
            leave_probes_out(field);
            was_empty || !field.as_array().is_some_and(Vec::is_empty)
        }),
        _ => {}
    }
}

/// Renders manifests the way `nuncio render` does it, from a directory of one file.
fn rendering(manifests: &str) -> anyhow::Result<Rendering> {
    let directory = tempfile::tempdir()?;
    let settings = Settings {
        in_cluster: section::header(manifests).any(|line| line == "# in cluster"),
        ..Settings::default()
    };
    fs::write(directory.path().join("input.yaml"), manifests)?;
    let changes = files::load(&files::Directory::served(directory.path()), &settings)?;
    Rendering::of(changes, &settings)
}

/// The connection manager of a Listener with nothing but the required fields. Its port is used by no case, so that
/// the name of the route table always differs and is always shown.
fn plain_connection_manager() -> anyhow::Result<Value> {
    let mut plain = rendering(
        "{apiVersion: getambassador.io/v3alpha1, kind: Listener, metadata: {name: plain}, spec: {port: 1, \
         protocol: HTTP, securityModel: XFP, hostBinding: {namespace: {from: ALL}}}}",
    )?;
    let listeners = plain.resources.entry("listeners".to_owned()).or_default();
    let managers = connection_manager::take(listeners, &Value::Null);
    let (_, manager) = managers
        .into_iter()
        .next()
        .context("a connection manager")?;
    Ok(manager)
}

/// An accepted object is never `Invalid`, and the message of an invalid one states that it is not served.
fn problems_fit_their_severity(input: &Path) -> datatest_stable::Result<()> {
    const OUTCOMES: [&str; 5] = [
        " is not served",
        " is not used",
        "; ignored",
        "; this AuthService has no effect",
        " get 500 until it is fixed",
    ];
    for (object, report) in rendering(&fs::read_to_string(input)?)?.reports {
        for problem in report.problems {
            let is_error = problem.severity == Severity::Error;
            let is_invalid = problem.reason == Reason::INVALID;
            let states_outcome = || OUTCOMES.iter().any(|end| problem.message.ends_with(end));
            if is_invalid && !(is_error && states_outcome()) {
                return Err(format!("{object}: {problem:?}").into());
            }
        }
    }
    Ok(())
}

/// An output whose input is gone is a leftover; delete it.
fn has_input(output: &Path) -> datatest_stable::Result<()> {
    let input = output.to_string_lossy().replace(".out.yaml", ".in.yaml");
    if Path::new(&input).exists() {
        Ok(())
    } else {
        Err(format!("{input} is missing").into())
    }
}
