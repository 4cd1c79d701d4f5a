//! Part `hosts`: how long a change of a Host with a certificate of its own takes from the apiserver to TLS, and what it
//! costs, among many.

mod fleet;

use anyhow::Result;

use super::{
    cost::{Cost, memory, settle},
    options::Options,
    rig::{Rig, TLS_LISTENER},
    table,
};
use fleet::Fleet;

/// Measures all sizes.
pub(super) async fn run(options: &Options) -> Result<()> {
    table::head(
        "Changes of Hosts, each with a Mapping of its own, and with a Secret and a certificate of its own or one of \
         those that all share, behind one port with TLS. Times \
         are in milliseconds, p50 / p99 / max, from sending the first request to the apiserver to the first handshake \
         that shows the change; in brackets p50 from the apiserver's last answer. A load is timed from the last \
         creation until a sample of names answers. CPU is for each Host, in milliseconds: that of the operator, with \
         status; that of Envoy's main thread, which takes configuration. Bytes are those sent to Envoy for each Host. \
         Memory is resident (proportional), in MiB, afterwards.",
        &[
            "Hosts",
            "certificates",
            "change",
            "time",
            "CPU",
            "CPU of Envoy",
            "bytes",
            "memory",
            "memory of Envoy",
        ],
        &["change"],
    );
    for size in options.sizes(&[100, 1_000, 10_000]) {
        for certificates in &options.certificates {
            measure(size, *certificates, options.edits).await?;
        }
    }
    Ok(())
}

async fn measure(size: usize, certificates: usize, edits: usize) -> Result<()> {
    let rig = Rig::start(TLS_LISTENER).await?;
    let fleet = Fleet::new(&rig.client, size, certificates)?;
    let report = async |change: &str, time: String, before: &Cost, changes: usize| {
        let hosts = [size, certificates];
        report(&rig, hosts, change, time, before, changes).await
    };

    let before = Cost::now(&rig).await?;
    let loaded = fleet.load().await?;
    let time = format!("{:.2} s", loaded.as_secs_f64());
    report("load", time, &before, size).await?;

    let before = Cost::now(&rig).await?;
    let added = fleet.adds(edits).await?;
    report("add", added.to_string(), &before, edits).await?;

    let before = Cost::now(&rig).await?;
    let rotated = fleet.rotations(edits).await?;
    report("rotate", rotated.to_string(), &before, edits).await?;

    let before = Cost::now(&rig).await?;
    let deleted = fleet.deletes(edits).await?;
    report("delete", deleted.to_string(), &before, edits).await
}

/// Adds a row for changes that have been made since `before`, once their status is written.
async fn report(
    rig: &Rig,
    [size, certificates]: [usize; 2],
    change: &str,
    time: String,
    before: &Cost,
    changes: usize,
) -> Result<()> {
    settle(&rig.replica).await?;
    let cost = Cost::now(rig).await?.since(before, changes);
    table::row(&[
        size.to_string(),
        match certificates {
            0 => "own".to_owned(),
            shared => shared.to_string(),
        },
        change.to_owned(),
        time,
        format!("{:.2}", cost.cpu * 1e3),
        format!("{:.2}", cost.envoy_cpu * 1e3),
        format!("{:.0}", cost.bytes),
        memory(&rig.replica.process),
        memory(&rig.envoy.process),
    ]);
    Ok(())
}
