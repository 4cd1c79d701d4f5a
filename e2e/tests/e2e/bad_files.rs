//! Invalid input in files, which no apiserver checks. Each case is reported on its object and affects no other.

use std::{fs, path::Path, process::Command};

use anyhow::{Context as _, Result, ensure};
use nuncio_e2e::{backend::Backend, client::get, gateway::stops, wait::until, workspace::nuncio};
use rustix::process::Signal;
use serde_json::Value;

use crate::serve::{HTTP, gone, samples, serve};

struct Case {
    what: &'static str,
    /// Manifests, as a user may write them.
    file: String,
    /// The object whose report must have the problem, as `nuncio render` names it.
    object: &'static str,
    /// Field path of the problem.
    path: &'static str,
    /// Text of its message.
    message: &'static str,
}

fn object(kind: &str, spec: &str) -> String {
    format!(
        "apiVersion: getambassador.io/v3alpha1\nkind: {kind}\nmetadata: {{name: bad}}\n{spec}\n"
    )
}

fn cases() -> Vec<Case> {
    let case = |what, file, object, path, message| Case {
        what,
        file,
        object,
        path,
        message,
    };
    let mapping = |spec| object("Mapping", spec);
    const MAPPING: &str = "Mapping default/bad";
    vec![
        case(
            "invalid YAML",
            "kind: [".to_owned(),
            "bad.yaml#1",
            "",
            "invalid YAML",
        ),
        case(
            "an unknown kind",
            "apiVersion: example.com/v1\nkind: Toaster\nmetadata: {name: t}\n".to_owned(),
            "bad.yaml#1",
            "kind",
            "Toaster",
        ),
        case(
            "a wrong type",
            mapping("spec: {hostname: '*', prefix: 5, service: x}"),
            MAPPING,
            "spec.prefix",
            "expected a string",
        ),
        case(
            "a bad regex",
            mapping("spec: {hostname: '*', prefix: '/(', prefix_regex: true, service: x}"),
            MAPPING,
            "spec.prefix",
            "unclosed group",
        ),
        case(
            "a host name that is none",
            mapping("spec: {hostname: 'no host', prefix: /, service: x}"),
            MAPPING,
            "spec.hostname",
            "no host",
        ),
        case(
            "a Host whose name is none",
            object("Host", "spec: {hostname: 'no host'}"),
            "Host default/bad",
            "spec.hostname",
            "no host",
        ),
        case("no spec", mapping(""), MAPPING, "spec", "spec is missing"),
        case(
            "a second Listener on the port",
            object(
                "Listener",
                "spec: {port: 8080, protocol: HTTP, securityModel: INSECURE, hostBinding: {namespace: {from: SELF}}}",
            )
            .replace("name: bad", "name: z"),
            "Listener default/z",
            "spec.port",
            "Listener default/http",
        ),
    ]
}

pub(crate) async fn a_bad_file_is_reported_and_affects_no_other() -> Result<()> {
    let _backend = Backend::start("127.0.0.1:9101", "good").await?;
    let directory = tempfile::tempdir()?;
    let path = directory.path();
    samples(path)?;
    fs::write(
        path.join("good.yaml"),
        object(
            "Mapping",
            "spec: {hostname: '*', prefix: /good/, service: '127.0.0.1:9101'}",
        )
        .replace("name: bad", "name: good"),
    )?;
    let alone = render(path)?["resources"].take();
    let mut control_plane = serve(path)?;
    good_is_served().await?;
    for case in cases() {
        fs::write(path.join("bad.yaml"), &case.file)?;
        let rendered = render(path)?;
        is_reported(&rendered, &case).with_context(|| case.what.to_owned())?;
        ensure!(
            rendered["resources"] == alone,
            "{} changes what is served",
            case.what
        );
        good_is_served().await?;
    }
    stops(&mut control_plane, Signal::TERM)?;
    gone().await
}

pub(crate) async fn a_file_served_in_part_is_reported() -> Result<()> {
    let _backend = Backend::start("127.0.0.1:9101", "good").await?;
    let directory = tempfile::tempdir()?;
    let path = directory.path();
    samples(path)?;
    let mut control_plane = serve(path)?;
    let served = |field: &str| {
        object(
            "Mapping",
            &format!("spec: {{hostname: '*', prefix: /good/, service: '127.0.0.1:9101', {field}}}"),
        )
    };
    let unknown = Case {
        what: "an unknown field",
        file: served("rewrit: /"),
        object: "Mapping default/bad",
        path: "spec.rewrit",
        message: "ignored",
    };
    fs::write(path.join("bad.yaml"), &unknown.file)?;
    is_reported(&render(path)?, &unknown)?;
    good_is_served().await?;
    let without_key = Case {
        what: "a Secret without key",
        file: "apiVersion: getambassador.io/v3alpha1\nkind: Host\nmetadata: {name: bad}\nspec: {hostname: bad.example, tlsSecret: {name: s}}\n---\napiVersion: v1\nkind: Secret\nmetadata: {name: s}\nstringData: {tls.crt: nothing}\n".to_owned(),
        object: "Host default/bad",
        path: "spec.tlsSecret",
        message: "tls.key is missing",
    };
    fs::write(path.join("worse.yaml"), &without_key.file)?;
    is_reported(&render(path)?, &without_key)?;
    good_is_served().await?;
    // too large for the apiserver, but not for a file
    let docs = format!("docs: {{path: /{}}}", "x".repeat(2 << 20));
    fs::write(
        path.join("bad.yaml"),
        served(&docs).replace("/good/", "/big/"),
    )?;
    answers("/big/").await?;
    stops(&mut control_plane, Signal::TERM)?;
    gone().await
}

/// The output of `nuncio render`.
fn render(directory: &Path) -> Result<Value> {
    let output = Command::new(nuncio()?)
        .arg("render")
        .arg(directory)
        .args(["-o", "json"])
        .output()?;
    Ok(serde_json::from_slice(&output.stdout)?)
}

fn is_reported(rendered: &Value, case: &Case) -> Result<()> {
    let problems = &rendered["reports"][case.object]["problems"];
    let found = problems.as_array().is_some_and(|problems| {
        problems.iter().any(|problem| {
            problem["path"] == case.path
                && problem["message"]
                    .as_str()
                    .is_some_and(|message| message.contains(case.message))
        })
    });
    ensure!(
        found,
        "{}: problems of {} are {problems}",
        case.what,
        case.object
    );
    Ok(())
}

async fn good_is_served() -> Result<()> {
    answers("/good/").await
}

async fn answers(path: &str) -> Result<()> {
    until(path, || async {
        let answer = get(HTTP, "localhost", path).await?;
        ensure!(
            answer.status == 200 && answer.body.starts_with("good"),
            "{} {}",
            answer.status,
            answer.body
        );
        Ok(())
    })
    .await
}
