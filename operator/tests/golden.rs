//! One input, one output: `testdata/AREA/CASE.in.yaml` is rendered and compared with `CASE.out.yaml`, which holds the
//! report of each object and Envoy's resources. `UPDATE_GOLDEN=1` stores what comes out; the diff is then read like
//! code.
//!
//! An input is what a user would apply. With `# in cluster` as its first line every Service is taken to be known.

use std::{env, fs, path::Path};

use nuncio::{
    files,
    render_command::{Format, Rendering},
};
use nuncio_core::settings::Settings;
use similar::TextDiff;

datatest_stable::harness! {
    { test = matches_output, root = "tests/testdata", pattern = r"\.in\.yaml$" },
    { test = has_input, root = "tests/testdata", pattern = r"\.out\.yaml$" },
}

/// Compares the rendering with the stored output; `UPDATE_GOLDEN=1` stores it instead.
fn matches_output(input: &Path) -> datatest_stable::Result<()> {
    let output = input.to_string_lossy().replace(".in.yaml", ".out.yaml");
    let actual = rendering(&fs::read_to_string(input)?)?;
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

/// Renders manifests the way `nuncio render` does it, from a directory of one file.
fn rendering(manifests: &str) -> anyhow::Result<String> {
    let directory = tempfile::tempdir()?;
    let settings = Settings {
        in_cluster: manifests.starts_with("# in cluster\n"),
        ..Settings::default()
    };
    fs::write(directory.path().join("input.yaml"), manifests)?;
    let changes = files::load(directory.path(), &settings)?;
    Rendering::of(changes, &settings)?.to_text(Format::Yaml)
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
