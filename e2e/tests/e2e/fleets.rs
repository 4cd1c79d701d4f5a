//! Two fleets of one control plane: each has objects, keys and an Envoy of its own, and gets nothing of the other.

use std::{fs, path::Path};

use anyhow::{Result, ensure};
use nuncio_e2e::{
    backend::Backend,
    certificate::Authority,
    client::{get, open_tls},
    gateway::{Envoy, Replica},
    instance::Instance,
    wait::until,
};
use tokio::net::TcpListener;

use crate::{
    Space,
    fixture::{host, mapping, object},
    space::{self, with_id},
    status::condition,
};

const RED: &str = "fleet-red";
const BLUE: &str = "fleet-blue";
/// The hostname that both fleets have.
const HOST: &str = "shop.example";

/// An Envoy with the xDS certificate of this fleet, which says that it belongs to one, if any.
async fn envoy(
    instance: &Instance,
    files: &Path,
    certificate: &str,
    fleet: Option<&str>,
    number: u16,
) -> Result<Envoy> {
    let file = |name: &str| files.join(name).display().to_string();
    let (ca, chain, key) = (
        file("ca.crt"),
        file(&format!("{certificate}.crt")),
        file(&format!("{certificate}.key")),
    );
    let mut flags = vec!["--xds-ca", &ca, "--xds-cert", &chain, "--xds-key", &key];
    flags.extend(
        fleet
            .map(|fleet| ["--ambassador-id", fleet])
            .iter()
            .flatten(),
    );
    Envoy::start_bootstrapped(
        &format!("envoy-{certificate}-{number}"),
        &instance.xds(0),
        &instance.admin(number),
        &flags,
    )
}

/// Listeners, a Host with a certificate and a Mapping of a fleet, on ports from this on.
fn manifests(
    space: &Space,
    authority: &Authority,
    fleet: &str,
    port: u16,
    backend: &str,
) -> Result<String> {
    let listener = |name: &str, port: u16, protocol: &str| {
        let spec = format!(
            "port: {port}, protocol: {protocol}, securityModel: XFP, hostBinding: {{namespace: {{from: SELF}}}}"
        );
        object("Listener", &format!("{fleet}-{name}"), &spec)
    };
    let all = [
        listener("http", port, "HTTP"),
        listener("https", port + 1, "HTTPS"),
        host(fleet, HOST, &format!(", tlsSecret: {{name: {fleet}}}")),
        mapping(fleet, HOST, "/", backend, ""),
        authority.issue(&[HOST])?.secret(&space.namespace, fleet),
    ];
    with_id(&all.concat(), fleet)
}

/// Sum of a metric over its labels, of one fleet.
async fn metric(replica: &Replica, name: &str, fleet: &str) -> Result<f64> {
    replica
        .metric_with(name, &format!("fleet=\"{fleet}\""))
        .await
}

/// Waits until a port answers with this body.
async fn answers(address: &str, path: &str, body: &str) -> Result<()> {
    until(path, || async {
        let answer = get(address, HOST, path).await?;
        ensure!(
            answer.status == 200 && answer.body.starts_with(body),
            "{answer:?}"
        );
        Ok(())
    })
    .await
}

/// The certificate for xDS connections of each: the control plane, and one for each fleet.
fn write_certificates(files: &Path, address: &str) -> Result<()> {
    let authority = Authority::new()?;
    fs::write(files.join("ca.crt"), authority.pem())?;
    for (file, name) in [
        ("xds", address),
        (RED, "envoy-of-red"),
        (BLUE, "envoy-of-blue"),
    ] {
        let issued = authority.issue(&[name])?;
        fs::write(files.join(format!("{file}.crt")), issued.chain)?;
        fs::write(files.join(format!("{file}.key")), issued.key)?;
    }
    Ok(())
}

async fn start(space: &Space, instance: &Instance, files: &Path) -> Result<Replica> {
    let file = |name: &str| files.join(name).display().to_string();
    let flags = [
        "--xds-tls-cert",
        &file("xds.crt"),
        "--xds-tls-key",
        &file("xds.key"),
        "--xds-tls-client-ca",
        &file("ca.crt"),
        "--xds-client-name",
        &format!("envoy-of-red={RED}"),
        "--xds-client-name",
        &format!("envoy-of-blue={BLUE}"),
    ];
    Replica::start_with(&space.plane, instance, 0, &instance.xds(0), &flags).await
}

pub(crate) async fn two_fleets_of_one_control_plane_share_nothing(space: &Space) -> Result<()> {
    let _red = Backend::start("10.96.55.1:80", "red").await?;
    let _blue = Backend::start("10.96.55.2:80", "blue").await?;
    let _both = Backend::start("10.96.55.3:80", "both").await?;
    let instance = space::instance(&format!("{RED},{BLUE}"));
    let (of_red, of_blue) = (Authority::new()?, Authority::new()?);
    let both = mapping(
        "both",
        HOST,
        "/both/",
        "10.96.55.3",
        &format!(", ambassador_id: [{RED}, {BLUE}]"),
    );
    let all = [
        manifests(space, &of_red, RED, 9180, "10.96.55.1")?,
        manifests(space, &of_blue, BLUE, 9190, "10.96.55.2")?,
        both,
    ];
    space.plane.apply(&space.namespace, &all.join("\n---\n"))?;
    let files = tempfile::tempdir()?;
    write_certificates(files.path(), &instance.address.to_string())?;
    let replica = start(space, &instance, files.path()).await?;

    // the same host name, with a backend and a certificate of each
    let red = envoy(&instance, files.path(), RED, Some(RED), 0).await?;
    // its certificate says enough
    let blue = envoy(&instance, files.path(), BLUE, None, 1).await?;
    red.ready().await?;
    blue.ready().await?;
    for (port, body, authority) in [(9180, "red", &of_red), (9190, "blue", &of_blue)] {
        answers(&instance.port(port), "/x", body).await?;
        answers(&instance.port(port), "/both/x", "both").await?;
        let mut connection = open_tls(&instance.port(port + 1), HOST, &authority.der()).await?;
        let answer = connection.get(HOST, "/").await?;
        ensure!(
            answer.status == 200 && answer.body.starts_with(body),
            "{answer:?}"
        );
    }
    let dump = red.admin("/config_dump").await?;
    ensure!(
        dump.contains("10.96.55.1") && dump.contains(RED),
        "red lacks its own"
    );
    ensure!(
        !dump.contains("10.96.55.2") && !dump.contains(BLUE),
        "red has something of blue"
    );
    let dump = blue.admin("/config_dump").await?;
    ensure!(
        dump.contains("10.96.55.2") && dump.contains(BLUE),
        "blue lacks its own"
    );
    ensure!(
        !dump.contains("10.96.55.1") && !dump.contains(RED),
        "blue has something of red"
    );

    // one status for an object of both, and for others that of their fleet
    condition(
        space,
        &format!("mapping/{RED}"),
        "Programmed",
        "True",
        "Programmed 1/1 Envoys",
    )
    .await?;
    for fleet in [RED, BLUE] {
        let part = format!("[{fleet}] 1/1 Envoys");
        condition(space, "mapping/both", "Programmed", "True", &part).await?;
    }

    only_its_own_fleet_is_sent_a_change(space, &instance, &replica).await?;
    what_one_rejects_is_nothing_to_the_other(space, &instance, &replica).await?;
    an_envoy_gets_no_other_fleet(&instance, files.path(), &replica).await
}

/// A change of red sends nothing to blue.
async fn only_its_own_fleet_is_sent_a_change(
    space: &Space,
    instance: &Instance,
    replica: &Replica,
) -> Result<()> {
    const SENT: &str = "nuncio_xds_response_resources_total";
    let (red, blue) = (
        metric(replica, SENT, RED).await?,
        metric(replica, SENT, BLUE).await?,
    );
    ensure!(red > 0.5 && blue > 0.5, "the metric has no fleet");
    let moved = mapping(RED, HOST, "/moved/", "10.96.55.1", "");
    space
        .plane
        .apply(&space.namespace, &with_id(&moved, RED)?)?;
    answers(&instance.port(9180), "/moved/x", "red").await?;
    until("the old route is gone", || async {
        let answer = get(&instance.port(9180), HOST, "/x").await?;
        ensure!(answer.status == 404, "{answer:?}");
        Ok(())
    })
    .await?;
    ensure!(metric(replica, SENT, RED).await? > red, "nothing was sent");
    let after = metric(replica, SENT, BLUE).await?;
    ensure!(
        (after - blue).abs() < 0.5,
        "{} resources to blue",
        after - blue
    );
    answers(&instance.port(9190), "/x", "blue").await
}

/// A Listener that red's Envoy rejects changes nothing for blue.
async fn what_one_rejects_is_nothing_to_the_other(
    space: &Space,
    instance: &Instance,
    replica: &Replica,
) -> Result<()> {
    const REJECTED: &str = "nuncio_xds_rejected_resources";
    let _taken = TcpListener::bind(instance.port(9189)).await?;
    let listener = object(
        "Listener",
        "taken",
        "port: 9189, protocol: HTTP, securityModel: XFP, hostBinding: {namespace: {from: SELF}}",
    );
    space
        .plane
        .apply(&space.namespace, &with_id(&listener, RED)?)?;
    condition(space, "listener/taken", "Programmed", "False", "Rejected").await?;
    ensure!(metric(replica, REJECTED, RED).await? > 0.5, "not of red");
    ensure!(metric(replica, REJECTED, BLUE).await? < 0.5, "of blue, too");
    let readiness = replica.readiness().await?;
    ensure!(
        readiness.contains(&format!("{RED}: tcp-9189")),
        "{readiness}"
    );
    condition(
        space,
        &format!("listener/{BLUE}-http"),
        "Programmed",
        "True",
        "",
    )
    .await
}

/// An Envoy that names another fleet than that of its certificate, or one that is not served, gets nothing.
async fn an_envoy_gets_no_other_fleet(
    instance: &Instance,
    files: &Path,
    replica: &Replica,
) -> Result<()> {
    for (number, fleet) in [(2, BLUE), (3, "fleet-green")] {
        let rejected = async || -> Result<f64> {
            let name = "nuncio_xds_rejected_streams_total";
            replica.metric_with(name, "reason=\"fleet\"").await
        };
        let before = rejected().await?;
        let thief = envoy(instance, files, RED, Some(fleet), number).await?;
        until("two rejected streams", || async {
            ensure!(rejected().await? > before + 1.5, "none");
            Ok(())
        })
        .await?;
        let dump = thief.admin("/config_dump").await?;
        for part in ["10.96.55.", HOST] {
            ensure!(!dump.contains(part), "it has {part}");
        }
    }
    Ok(())
}
