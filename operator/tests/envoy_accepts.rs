//! What Nuncio accepts of texts that have a language of their own, Envoy accepts too: each entry of a table is rendered,
//! and validated by Envoy.

use std::{
    collections::BTreeMap,
    env, fs,
    path::{Path, PathBuf},
    process::Command,
    thread,
};

use anyhow::{Context as _, Result, ensure};
use nuncio::{files, render_command::Rendering};
use nuncio_core::settings::Settings;
use serde_json::{Value, json};

#[path = "envoy_accepts/table.rs"]
mod table;

/// Path of Envoy.
fn program() -> Result<PathBuf> {
    let path = env::var_os("ENVOY").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("../.tools/bin/envoy"),
        PathBuf::from,
    );
    ensure!(
        path.is_file(),
        "{} is missing: run `make tools`, or set ENVOY",
        path.display()
    );
    Ok(path)
}

/// Why Envoy rejects a configuration; `None`: it accepts it.
fn rejection(config: &Value) -> Result<Option<String>> {
    let file = tempfile::Builder::new().suffix(".json").tempfile()?;
    fs::write(file.path(), config.to_string())?;
    let output = Command::new(program()?)
        .args(["--mode", "validate", "--log-level", "error", "-c"])
        .arg(file.path())
        .output()?;
    let rejected = !output.status.success();
    Ok(rejected.then(|| String::from_utf8_lossy(&output.stderr).into_owned()))
}

/// Calls a function with all items, two at a time.
fn for_each<T: Sync>(items: &[T], check: impl Fn(&T) -> Result<()> + Sync) -> Result<()> {
    thread::scope(|scope| {
        let halves = items.chunks(items.len().div_ceil(2).max(1));
        let threads: Vec<_> = halves
            .map(|half| scope.spawn(|| half.iter().try_for_each(&check)))
            .collect();
        threads
            .into_iter()
            .try_for_each(|thread| thread.join().expect("no check panics"))
    })
}

/// Renders objects.
fn rendering(objects: &[Value]) -> Result<Rendering> {
    let directory = tempfile::tempdir()?;
    for (number, object) in objects.iter().enumerate() {
        let path = directory.path().join(format!("{number}.json"));
        fs::write(path, object.to_string())?;
    }
    let settings = Settings::default();
    Rendering::of(
        files::load(&files::Directory::served(directory.path()), &settings)?,
        &settings,
    )
}

fn object(kind: &str, name: &str, spec: &Value) -> Value {
    let metadata = json!({"name": name});
    json!({"apiVersion": "getambassador.io/v3alpha1", "kind": kind, "metadata": metadata, "spec": spec})
}

/// A static listener with this route table.
fn listener(mut table: Value) -> Value {
    table["validate_clusters"] = false.into();
    let manager = json!({
        "@type": "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "test",
        "route_config": table,
        "http_filters": [{"name": "router", "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router"}}],
    });
    json!({"static_resources": {"listeners": [{
        "name": "test",
        "address": {"socket_address": {"address": "127.0.0.1", "port_value": 0}},
        "filter_chains": [{"filters": [{"name": "manager", "typed_config": manager}]}],
    }]}})
}

/// The route table of a Mapping that adds headers with these values to responses, and its problems by header name.
fn with_headers(values: &[String]) -> Result<(Value, BTreeMap<String, String>)> {
    let name = |place: usize| format!("x-{place}");
    let added: BTreeMap<String, Value> = values
        .iter()
        .enumerate()
        .map(|(place, value)| (name(place), json!({"value": value})))
        .collect();
    let found = rendering(&[
        object(
            "Listener",
            "http",
            &json!({"port": 8080, "protocol": "HTTP", "securityModel": "INSECURE",
                "hostBinding": {"namespace": {"from": "ALL"}}}),
        ),
        object(
            "Mapping",
            "test",
            &json!({"hostname": "*", "prefix": "/", "service": "10.0.0.1", "add_response_headers": added}),
        ),
    ])?;
    let report = &found.reports["Mapping default/test"];
    let problems = report.problems.iter().map(|problem| {
        let header = problem
            .path
            .trim_start_matches("spec.add_response_headers[");
        (
            header.trim_end_matches(']').to_owned(),
            problem.message.clone(),
        )
    });
    let (_, table) = found.resources["routes"]
        .iter()
        .next()
        .context("a route table")?;
    Ok((table.clone(), problems.collect()))
}

#[test]
fn envoy_accepts_every_supported_operator() -> Result<()> {
    let names = table::OPERATORS.split_whitespace();
    let mut values: Vec<String> = names.map(|name| format!("%{name}%")).collect();
    values.extend(table::VALID_VALUES.iter().map(ToString::to_string));
    let (table, problems) = with_headers(&values)?;
    assert_eq!(problems, BTreeMap::new());
    assert_eq!(rejection(&listener(table))?, None);
    Ok(())
}

#[test]
fn envoy_rejects_invalid_values_too() -> Result<()> {
    let left_out = table::LEFT_OUT.iter();
    let values: Vec<String> = table::INVALID_VALUES
        .iter()
        .chain(left_out)
        .map(ToString::to_string)
        .collect();
    let (_, problems) = with_headers(&values)?;
    for (place, value) in values.iter().enumerate() {
        let name = format!("x-{place}");
        assert!(problems.contains_key(&name), "{value} is accepted");
    }
    let (accepted, _) = with_headers(&["plain".to_owned()])?;
    for_each(table::INVALID_VALUES, |value| {
        let mut table = accepted.clone();
        let routes = table.pointer_mut("/virtual_hosts/0/routes");
        let routes = routes.and_then(Value::as_array_mut).into_iter().flatten();
        // the routes of probes come first, without headers
        let header = routes
            .filter_map(|route| route.pointer_mut("/response_headers_to_add/0/header/value"))
            .next()
            .context("a header")?;
        *header = (*value).into();
        ensure!(
            rejection(&listener(table))?.is_some(),
            "Envoy accepts {value}"
        );
        Ok(())
    })
}

/// TLS parameters as they are written in a TLSContext: the field of the list, and its items.
type Parameters = (&'static str, &'static [&'static str]);

/// The clusters of upstreams with these TLS parameters, and the problems, by place.
fn with_parameters(
    parameters: &[Parameters],
) -> Result<(BTreeMap<usize, Value>, BTreeMap<usize, String>)> {
    let mut objects = Vec::new();
    for (place, (field, items)) in parameters.iter().enumerate() {
        let name = format!("tls-{place}");
        objects.push(object("TLSContext", &name, &json!({*field: items})));
        let spec = json!({"hostname": "*", "prefix": format!("/{place}/"),
            "service": format!("https://10.0.0.1:{}", place + 1), "tls": name});
        objects.push(object("Mapping", &name, &spec));
    }
    objects.push(object(
        "Listener",
        "http",
        &json!({"port": 8080, "protocol": "HTTP", "securityModel": "INSECURE",
            "hostBinding": {"namespace": {"from": "ALL"}}}),
    ));
    let mut found = rendering(&objects)?;
    let clusters = found.resources.remove("clusters").unwrap_or_default();
    let mut accepted = BTreeMap::new();
    let mut problems = BTreeMap::new();
    for place in 0..parameters.len() {
        let report = &found.reports[&format!("TLSContext default/tls-{place}")];
        if let Some(problem) = report.problems.first() {
            problems.insert(place, format!("{}: {}", problem.path, problem.message));
            continue;
        }
        let port = place + 1;
        let address = |cluster: &&Value| {
            cluster
                .to_string()
                .contains(&format!("\"port_value\":{port}}}"))
        };
        let cluster = clusters.values().find(address).context("a cluster")?;
        accepted.insert(place, cluster.clone());
    }
    Ok((accepted, problems))
}

fn static_clusters(clusters: &[&Value]) -> Value {
    json!({"static_resources": {"clusters": clusters}})
}

#[test]
fn cipher_suites_and_curves_are_those_of_envoy() -> Result<()> {
    let lists: Vec<Parameters> = table::VALID_LISTS
        .iter()
        .chain(table::INVALID_LISTS)
        .copied()
        .collect();
    let (accepted, problems) = with_parameters(&lists)?;
    let valid = table::VALID_LISTS.len();
    for (place, list) in lists.iter().enumerate() {
        let problem = problems.get(&place);
        assert_eq!(problem.is_none(), place < valid, "{list:?}: {problem:?}");
    }
    let clusters: Vec<&Value> = accepted.values().collect();
    assert_eq!(rejection(&static_clusters(&clusters))?, None);
    for_each(table::INVALID_LISTS, |(field, items)| {
        let mut cluster = accepted[&0].clone();
        let parameters = cluster
            .pointer_mut("/transport_socket/typed_config/common_tls_context/tls_params")
            .context("TLS parameters")?;
        *parameters = json!({*field: items});
        let rejected = rejection(&static_clusters(&[&cluster]))?;
        ensure!(rejected.is_some(), "Envoy accepts {field} {items:?}");
        Ok(())
    })
}

/// The certificates that Envoy gets of a Secret.
fn chain_of(chain: &str, key: &str) -> Result<String> {
    let secret = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "test"},
        "type": "kubernetes.io/tls", "stringData": {"tls.crt": chain, "tls.key": key}});
    let mut found = rendering(&[
        object(
            "Listener",
            "https",
            &json!({"port": 8443, "protocol": "HTTPS", "securityModel": "XFP",
                "hostBinding": {"namespace": {"from": "ALL"}}}),
        ),
        object(
            "Host",
            "test",
            &json!({"hostname": "a.example", "tlsSecret": {"name": "test"}}),
        ),
        secret,
    ])?;
    let secrets = found.resources.remove("secrets").unwrap_or_default();
    let sent = secrets
        .values()
        .find_map(|secret| secret.pointer("/tls_certificate/certificate_chain/inline_string"))
        .with_context(|| format!("not sent: {chain} {:?}", found.reports))?;
    Ok(sent.as_str().context("a text")?.to_owned())
}

#[test]
fn envoy_reads_certificates_that_stand_among_other_blocks() -> Result<()> {
    let key_pair = rcgen::KeyPair::generate()?;
    let params = rcgen::CertificateParams::new(vec!["a.example".to_owned()])?;
    let certificate = params.self_signed(&key_pair)?.pem();
    let key = key_pair.serialize_pem();
    let other = "-----BEGIN DH PARAMETERS-----\nMAYCAQUCAQI=\n-----END DH PARAMETERS-----\n";
    let broken = "-----BEGIN OTHER-----\n!\n-----END OTHER-----\n";
    let old = certificate.replace(" CERTIFICATE", " X509 CERTIFICATE");
    let trusted = certificate.replace(" CERTIFICATE", " TRUSTED CERTIFICATE");
    let chains = [
        certificate.clone(),
        format!("{certificate}{key}"),
        format!("{key}{other}{certificate}{broken}"),
        format!("subject=a\r\n{}", certificate.replace('\n', "\r\n")),
        certificate.replace('\n', " \n\n"),
        old.clone(),
        format!("{certificate}{old}{trusted}"),
        format!("{trusted}{certificate}"),
    ];
    for_each(&chains, |chain| {
        let sent = chain_of(chain, &key)?;
        ensure!(
            !sent.contains(" KEY-----"),
            "the key is sent with the certificates"
        );
        let context = json!({
            "@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext",
            "common_tls_context": {"tls_certificates": [{
                "certificate_chain": {"inline_string": sent}, "private_key": {"inline_string": key}}]},
        });
        let mut config = listener(json!({}));
        config["static_resources"]["listeners"][0]["filter_chains"][0]["transport_socket"] =
            json!({"name": "tls", "typed_config": context});
        let rejected = rejection(&config)?;
        ensure!(rejected.is_none(), "{rejected:?}: {sent}");
        Ok(())
    })
}
