//! `make bench`: how long a change takes from the API to traffic, and what it costs, at growing numbers of Mappings, on a
//! real apiserver and a real Envoy in a sandbox.
#![expect(clippy::print_stdout, reason = "prints its results")]

use std::{
    fmt::Write as _,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};
use futures::{StreamExt as _, TryStreamExt as _, stream};
use kube::{
    Api, Client,
    api::{ApiResource, DeleteParams, DynamicObject, Patch, PatchParams, PostParams},
};
use nuncio_e2e::{
    backend::Backend,
    certificate::Authority,
    client::{Connection, open_tls},
    control_plane::ControlPlane,
    gateway::{Envoy, Replica, xds_address},
    sandbox,
};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
};

/// Longest wait for a change to reach traffic.
const PATIENCE: Duration = Duration::from_secs(60);

/// How Mappings are laid out.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Layout {
    /// All on one host name, without TLS.
    OneHost,
    /// Spread over 100 host names, without TLS.
    Cleartext,
    /// Spread over 100 host names, each with TLS.
    Tls,
}

impl Layout {
    const ALL: [Self; 3] = [Self::Tls, Self::Cleartext, Self::OneHost];

    const fn name(self) -> &'static str {
        match self {
            Self::OneHost => "1 host, cleartext",
            Self::Cleartext => "100 hosts, cleartext",
            Self::Tls => "100 hosts, TLS",
        }
    }

    const fn hosts(self) -> usize {
        match self {
            Self::OneHost => 1,
            Self::Cleartext | Self::Tls => 100,
        }
    }
}

struct Options {
    sizes: Vec<usize>,
    edits: usize,
    layout: Option<String>,
}

fn options() -> Result<Options> {
    let mut options = Options {
        sizes: vec![100, 1_000, 10_000],
        edits: 100,
        layout: None,
    };
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        let mut value = || {
            arguments
                .next()
                .with_context(|| format!("{argument} needs a value"))
        };
        match argument.as_str() {
            "--sizes" => {
                options.sizes = value()?
                    .split(',')
                    .map(str::parse)
                    .collect::<Result<_, _>>()?
            }
            "--edits" => options.edits = value()?.parse()?,
            "--layout" => options.layout = Some(value()?),
            _ => bail!(
                "usage: nuncio-bench [--sizes 100,1000,10000] [--edits 100] [--layout tls|cleartext|one]"
            ),
        }
    }
    Ok(options)
}

fn main() -> Result<()> {
    let options = options()?;
    sandbox::enter()?;
    tokio::runtime::Runtime::new()?.block_on(run(options))
}

async fn run(options: Options) -> Result<()> {
    println!(
        "| Mappings | layout | load to traffic | edit p50 / p99 / max | add p50 / max | delete p50 / max | CPU per edit | CPU per edit, Envoy | memory | memory, Envoy | bytes per edit |"
    );
    println!("| ---: | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |");
    for size in &options.sizes {
        for layout in Layout::ALL {
            let chosen = options.layout.as_deref().is_none_or(|only| match only {
                "tls" => layout == Layout::Tls,
                "cleartext" => layout == Layout::Cleartext,
                _ => layout == Layout::OneHost,
            });
            if chosen {
                println!("{}", measure(*size, layout, options.edits).await?);
            }
        }
    }
    Ok(())
}

async fn measure(size: usize, layout: Layout, edits: usize) -> Result<String> {
    let plane = ControlPlane::start().await?;
    let kubeconfig = kube::config::Kubeconfig::read_from(plane.kubeconfig())?;
    let config = kube::Config::from_custom_kubeconfig(kubeconfig, &Default::default()).await?;
    let client = Client::try_from(config)?;
    let authority = Authority::new()?;
    let _backends = [
        Backend::start("10.96.1.1:80", "one").await?,
        Backend::start("10.96.1.2:80", "two").await?,
    ];
    let mut gateway = Gateway {
        mappings: Api::namespaced_with(client.clone(), "default", &resource("Mapping", "mappings")),
        layout,
        size,
        authority,
    };
    prepare(&plane, layout, &gateway.authority)?;
    let replica = Replica::start(&plane, 0).await?;
    let envoy = Envoy::start("bench-envoy", &xds_address(0), 8001, "delta")?;
    envoy.ready().await?;

    let loaded = gateway.load().await?;
    // status of the whole load is written first, so that it is not counted as the cost of edits
    settle(&replica).await?;
    let before = Cost::now(&replica, &envoy).await?;
    let mut edit = gateway.edits(edits).await?;
    settle(&replica).await?;
    let cost = Cost::now(&replica, &envoy).await?.since(&before, edits);
    let mut add = gateway.adds(edits).await?;
    let mut delete = gateway.deletes(edits).await?;
    settle(&replica).await?;
    let mut row = String::new();
    write!(
        row,
        "| {size} | {} | {:.2} s | {} | {} | {} | {:.2} ms | {:.2} ms | {:.0} MiB | {:.0} MiB | {:.0} |",
        layout.name(),
        loaded.as_secs_f64(),
        percentiles(&mut edit, &[50, 99, 100]),
        percentiles(&mut add, &[50, 100]),
        percentiles(&mut delete, &[50, 100]),
        cost.cpu * 1e3,
        cost.envoy_cpu * 1e3,
        replica.process.memory_mib(),
        envoy.process.memory_mib(),
        cost.bytes,
    )?;
    Ok(row)
}

fn resource(kind: &str, plural: &str) -> ApiResource {
    ApiResource {
        group: "getambassador.io".to_owned(),
        version: "v3alpha1".to_owned(),
        api_version: "getambassador.io/v3alpha1".to_owned(),
        kind: kind.to_owned(),
        plural: plural.to_owned(),
    }
}

fn prepare(plane: &ControlPlane, layout: Layout, authority: &Authority) -> Result<()> {
    let mut manifests = String::from(
        "apiVersion: getambassador.io/v3alpha1\nkind: Listener\nmetadata: {name: http, namespace: default}\nspec: {port: 8080, protocol: HTTP, securityModel: XFP, hostBinding: {namespace: {from: ALL}}}\n---\n\
         apiVersion: getambassador.io/v3alpha1\nkind: Listener\nmetadata: {name: https, namespace: default}\nspec: {port: 8443, protocol: HTTPS, securityModel: XFP, hostBinding: {namespace: {from: ALL}}}\n---\n\
         apiVersion: v1\nkind: Service\nmetadata: {name: one, namespace: default}\nspec: {clusterIP: 10.96.1.1, ports: [{port: 80}]}\n---\n\
         apiVersion: v1\nkind: Service\nmetadata: {name: two, namespace: default}\nspec: {clusterIP: 10.96.1.2, ports: [{port: 80}]}\n---\n",
    );
    for host in 0..layout.hosts() {
        let tls = if layout == Layout::Tls {
            let name = hostname(host);
            manifests.push_str(
                &authority
                    .issue(&[&name])?
                    .secret("default", &format!("host-{host}")),
            );
            format!(", tlsSecret: {{name: host-{host}}}")
        } else {
            ", requestPolicy: {insecure: {action: Route}}".to_owned()
        };
        write!(
            manifests,
            "apiVersion: getambassador.io/v3alpha1\nkind: Host\nmetadata: {{name: host-{host}, namespace: default}}\nspec: {{hostname: {}{tls}}}\n---\n",
            hostname(host)
        )?;
    }
    plane.apply(&manifests)
}

fn hostname(host: usize) -> String {
    format!("host-{host}.example")
}

struct Gateway {
    mappings: Api<DynamicObject>,
    layout: Layout,
    size: usize,
    authority: Authority,
}

impl Gateway {
    fn host(&self, number: usize) -> String {
        hostname(number % self.layout.hosts())
    }

    fn mapping(&self, number: usize, service: &str, rewrite: &str) -> Value {
        json!({
            "apiVersion": "getambassador.io/v3alpha1",
            "kind": "Mapping",
            "metadata": {"name": format!("m-{number}")},
            "spec": {"hostname": self.host(number), "prefix": format!("/m-{number}/"), "service": service, "rewrite": rewrite}
        })
    }

    /// Creates all Mappings; the time from the last creation until all routes answer.
    async fn load(&mut self) -> Result<Duration> {
        stream::iter(0..self.size)
            .map(|number| {
                let object = serde_json::from_value(self.mapping(number, "one", "/"));
                let mappings = self.mappings.clone();
                async move {
                    mappings.create(&PostParams::default(), &object?).await?;
                    anyhow::Ok(())
                }
            })
            .buffer_unordered(16)
            .try_collect::<()>()
            .await?;
        let start = Instant::now();
        // the last of each host, then a sample of all: a route that is missing is waited for
        let step = (self.size / 500).max(1);
        for number in (0..self.size).rev().step_by(step) {
            self.wait(number, 200, "").await?;
        }
        Ok(start.elapsed())
    }

    /// Waits until a route answers like this; the time at which it did.
    async fn wait(&self, number: usize, status: u16, body: &str) -> Result<Instant> {
        let host = self.host(number);
        match self.layout {
            Layout::Tls => {
                let mut connection =
                    open_tls("127.0.0.1:8443", &host, &self.authority.der()).await?;
                poll(&mut connection, &host, number, status, body).await
            }
            Layout::OneHost | Layout::Cleartext => {
                let mut connection = Connection::<TcpStream>::open("127.0.0.1:8080").await?;
                poll(&mut connection, &host, number, status, body).await
            }
        }
    }

    async fn edits(&self, count: usize) -> Result<Vec<Duration>> {
        let mut times = Vec::new();
        for round in 0..count {
            let number = (round * 7919) % self.size;
            let rewrite = format!("/edit-{round}/");
            let body = format!("two GET {rewrite}");
            let object = self.mapping(number, "two", &rewrite);
            let start = Instant::now();
            self.mappings
                .patch(
                    &format!("m-{number}"),
                    &PatchParams::default(),
                    &Patch::Merge(&object),
                )
                .await?;
            times.push(self.wait(number, 200, &body).await? - start);
        }
        Ok(times)
    }

    async fn adds(&self, count: usize) -> Result<Vec<Duration>> {
        let mut times = Vec::new();
        for number in self.size..self.size + count {
            let object = serde_json::from_value(self.mapping(number, "one", "/"))?;
            let start = Instant::now();
            self.mappings
                .create(&PostParams::default(), &object)
                .await?;
            times.push(self.wait(number, 200, "one").await? - start);
        }
        Ok(times)
    }

    async fn deletes(&self, count: usize) -> Result<Vec<Duration>> {
        let mut times = Vec::new();
        for number in self.size..self.size + count {
            let start = Instant::now();
            self.mappings
                .delete(&format!("m-{number}"), &DeleteParams::default())
                .await?;
            times.push(self.wait(number, 404, "").await? - start);
        }
        Ok(times)
    }
}

async fn poll<S: AsyncRead + AsyncWrite + Unpin>(
    connection: &mut Connection<S>,
    host: &str,
    number: usize,
    status: u16,
    body: &str,
) -> Result<Instant> {
    let start = Instant::now();
    loop {
        let answer = connection.get(host, &format!("/m-{number}/")).await?;
        if answer.status == status && answer.body.starts_with(body) {
            return Ok(Instant::now());
        }
        ensure!(
            start.elapsed() < PATIENCE,
            "m-{number} answers {} {:?}",
            answer.status,
            answer.body
        );
        tokio::time::sleep(Duration::from_micros(500)).await;
    }
}

/// Waits until no status is waiting to be written.
async fn settle(replica: &Replica) -> Result<()> {
    let start = Instant::now();
    let mut quiet = 0;
    while quiet < 3 {
        let pending = replica.metric("nuncio_status_pending").await?;
        quiet = if pending < 0.5 { quiet + 1 } else { 0 };
        ensure!(
            start.elapsed() < Duration::from_secs(600),
            "{pending} statuses are still to be written"
        );
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
    Ok(())
}

/// What has been used so far.
struct Cost {
    cpu: f64,
    envoy_cpu: f64,
    bytes: f64,
}

impl Cost {
    async fn now(replica: &Replica, envoy: &Envoy) -> Result<Self> {
        Ok(Self {
            cpu: replica.process.cpu_seconds(),
            envoy_cpu: envoy.process.cpu_seconds(),
            bytes: replica.metric("xds_push_bytes_total").await?,
        })
    }

    #[expect(clippy::cast_precision_loss, reason = "a small number")]
    fn since(&self, before: &Self, changes: usize) -> Self {
        let changes = changes as f64;
        Self {
            cpu: (self.cpu - before.cpu) / changes,
            envoy_cpu: (self.envoy_cpu - before.envoy_cpu) / changes,
            bytes: (self.bytes - before.bytes) / changes,
        }
    }
}

/// Percentiles in milliseconds.
fn percentiles(times: &mut [Duration], which: &[usize]) -> String {
    times.sort_unstable();
    let at = |percent: usize| {
        let index = (times.len() * percent).div_ceil(100).saturating_sub(1);
        times
            .get(index)
            .map_or(0.0, |time| time.as_secs_f64() * 1e3)
    };
    let texts: Vec<String> = which
        .iter()
        .map(|percent| format!("{:.1}", at(*percent)))
        .collect();
    texts.join(" / ") + " ms"
}
