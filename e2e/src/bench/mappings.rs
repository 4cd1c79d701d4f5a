//! Part `mappings`: how long a change of a Mapping takes from the apiserver to traffic, and what it costs, among many.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use clap::ValueEnum as _;
use kube::{
    Api,
    api::{DeleteParams, DynamicObject, Patch, PatchParams, PostParams},
};
use serde_json::{Value, json};

use crate::{
    certificate::Authority,
    client::{Connection, open_tls},
};

use super::{
    cost::{Cost, memory, settle},
    latencies::Latencies,
    layout::{Layout, hostname},
    object,
    options::{Clusters, Options},
    rig::{HTTP, HTTPS, Rig},
    table,
};

/// Longest wait for a change to reach traffic.
const PATIENCE: Duration = Duration::from_secs(60);

/// Measures all requested sizes and layouts.
pub(super) async fn run(options: &Options) -> Result<()> {
    table::head(
        "Changes of Mappings. Times are in milliseconds, p50 / p99 / max, from sending the request to the apiserver to \
         the first answer that shows the change; in brackets p50 from the apiserver's answer. Memory is resident \
         (proportional), in MiB. CPU is per edit, in milliseconds: that of the operator, with status; that of Envoy's \
         main thread, which takes configuration.",
        &[
            "Mappings",
            "layout",
            "clusters",
            "load to all routes",
            "edit",
            "add",
            "delete",
            "CPU",
            "CPU of Envoy",
            "memory",
            "memory of Envoy",
            "bytes per edit",
        ],
        &["layout"],
    );
    for size in options.sizes(&[100, 1_000, 10_000]) {
        for layout in Layout::value_variants() {
            if options.layout.is_none_or(|only| only == *layout) {
                table::row(&measure(options, size, *layout).await?);
            }
        }
    }
    Ok(())
}

async fn measure(options: &Options, size: usize, layout: Layout) -> Result<Vec<String>> {
    let edits = options.edits;
    let authority = Authority::new()?;
    let rig = Rig::start(&layout.manifests(&authority)?).await?;
    let mappings = Mappings {
        api: object::kind(&rig.client, "Mapping", "mappings"),
        layout,
        clusters: options.clusters.unwrap_or(Clusters::Shared),
        size,
        authority,
    };
    let loaded = mappings.load().await?;
    // status of the whole load is written first, so that it is not counted as the cost of edits
    settle(&rig.replica).await?;
    let before = Cost::now(&rig).await?;
    let edit = mappings.edits(edits).await?;
    settle(&rig.replica).await?;
    let cost = Cost::now(&rig).await?.since(&before, edits);
    let add = mappings.adds(edits).await?;
    let delete = mappings.deletes(edits).await?;
    settle(&rig.replica).await?;
    Ok(vec![
        size.to_string(),
        layout.name().to_owned(),
        mappings.clusters.number(size).to_string(),
        format!("{:.2} s", loaded.as_secs_f64()),
        edit.to_string(),
        add.to_string(),
        delete.to_string(),
        format!("{:.2}", cost.cpu * 1e3),
        format!("{:.2}", cost.envoy_cpu * 1e3),
        memory(&rig.replica.process),
        memory(&rig.envoy.process),
        format!("{:.0}", cost.bytes),
    ])
}

struct Mappings {
    api: Api<DynamicObject>,
    layout: Layout,
    clusters: Clusters,
    size: usize,
    authority: Authority,
}

impl Mappings {
    fn host(&self, number: usize) -> String {
        hostname(number % self.layout.hosts())
    }

    fn mapping(&self, number: usize, service: &str, rewrite: &str) -> Value {
        let mut mapping = json!({
            "apiVersion": "getambassador.io/v3alpha1",
            "kind": "Mapping",
            "metadata": {"name": format!("m-{number}")},
            "spec": {"hostname": self.host(number), "prefix": format!("/m-{number}/"), "service": service, "rewrite": rewrite}
        });
        if self.clusters == Clusters::Own {
            mapping["spec"]["cluster_tag"] = json!(format!("m{number}"));
        }
        mapping
    }

    /// Creates all; the time from the last creation until all routes answer.
    async fn load(&self) -> Result<Duration> {
        let create = |number| object::create(&self.api, self.mapping(number, "one", "/"));
        object::for_each(0..self.size, create).await?;
        let start = Instant::now();
        // newest first, host by host, so that what came last is waited for and each host needs one connection
        let hosts = self.layout.hosts();
        for host in 0..hosts.min(self.size) {
            let mut connection = self.connect(host).await?;
            for number in (host..self.size).step_by(hosts).rev() {
                self.poll(&mut connection, number, 200, "").await?;
            }
        }
        Ok(start.elapsed())
    }

    async fn connect(&self, number: usize) -> Result<Connection> {
        Ok(match self.layout {
            Layout::Tls => {
                let (host, authority) = (self.host(number), self.authority.der());
                open_tls(HTTPS, &host, &authority).await?
            }
            Layout::One | Layout::Cleartext => Connection::open(HTTP).await?,
        })
    }

    /// Asks a route until it answers like this. Envoy may close the connection in between: then there is a new one.
    async fn poll(
        &self,
        connection: &mut Connection,
        number: usize,
        status: u16,
        body: &str,
    ) -> Result<()> {
        let (host, path) = (self.host(number), format!("/m-{number}/"));
        let start = Instant::now();
        loop {
            let Ok(answer) = connection.get(&host, &path).await else {
                ensure!(start.elapsed() < PATIENCE, "m-{number} does not answer");
                *connection = self.connect(number).await?;
                continue;
            };
            if answer.status == status && answer.body.starts_with(body) {
                return Ok(());
            }
            ensure!(
                start.elapsed() < PATIENCE,
                "m-{number} answers {} {:?}",
                answer.status,
                answer.body
            );
            tokio::time::sleep(Duration::from_micros(300)).await;
        }
    }

    async fn edits(&self, count: usize) -> Result<Latencies> {
        let mut times = Latencies::default();
        for round in 0..count {
            let number = (round * 7919) % self.size;
            let rewrite = format!("/edit-{round}/");
            let object = Patch::Merge(self.mapping(number, "two", &rewrite));
            let (name, params) = (format!("m-{number}"), PatchParams::default());
            let change = self.api.patch(&name, &params, &object);
            let body = format!("two GET {rewrite}");
            self.time(&mut times, change, number, 200, &body).await?;
        }
        Ok(times)
    }

    async fn adds(&self, count: usize) -> Result<Latencies> {
        let mut times = Latencies::default();
        for number in self.size..self.size + count {
            let object = serde_json::from_value(self.mapping(number, "one", "/"))?;
            let params = PostParams::default();
            let change = self.api.create(&params, &object);
            self.time(&mut times, change, number, 200, "one").await?;
        }
        Ok(times)
    }

    async fn deletes(&self, count: usize) -> Result<Latencies> {
        let mut times = Latencies::default();
        for number in self.size..self.size + count {
            let (name, params) = (format!("m-{number}"), DeleteParams::default());
            let change = self.api.delete(&name, &params);
            self.time(&mut times, change, number, 404, "").await?;
        }
        Ok(times)
    }

    /// Makes a change; the time until a route answers like this, from before the change and from after it.
    async fn time<T>(
        &self,
        times: &mut Latencies,
        change: impl Future<Output = kube::Result<T>>,
        number: usize,
        status: u16,
        body: &str,
    ) -> Result<()> {
        let mut connection = self.connect(number).await?;
        let sent = Instant::now();
        change.await?;
        let answered = Instant::now();
        self.poll(&mut connection, number, status, body).await?;
        times.add(sent.elapsed(), answered.elapsed());
        Ok(())
    }
}
