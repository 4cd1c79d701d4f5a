//! `make bench`: how long a change takes from the API to traffic, and what it costs, at growing numbers of Mappings, on a
//! real apiserver and a real Envoy in a sandbox.
#![expect(clippy::print_stdout, reason = "prints its results")]

use std::{
    fmt::{self, Write as _},
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
    client::{Answer, Connection, open_tls},
    control_plane::ControlPlane,
    gateway::{Envoy, Replica, xds_address},
    process::Process,
    sandbox,
};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

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
        "Times are in milliseconds, p50 / p99 / max, from sending the request to the apiserver to the first answer that \
         shows the change; in brackets p50 from the apiserver's answer. Memory is resident (proportional), in MiB. CPU \
         is per edit, in milliseconds: that of the operator, with status; that of Envoy's main thread, which takes \
         configuration.\n"
    );
    println!(
        "| Mappings | layout | load to all routes | edit | add | delete | CPU | CPU of Envoy | memory | memory of Envoy | bytes per edit |"
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
    let edit = gateway.edits(edits).await?;
    settle(&replica).await?;
    let cost = Cost::now(&replica, &envoy).await?.since(&before, edits);
    let add = gateway.adds(edits).await?;
    let delete = gateway.deletes(edits).await?;
    settle(&replica).await?;
    let mut row = String::new();
    write!(
        row,
        "| {size} | {} | {:.2} s | {edit} | {add} | {delete} | {:.2} | {:.2} | {} | {} | {:.0} |",
        layout.name(),
        loaded.as_secs_f64(),
        cost.cpu * 1e3,
        cost.envoy_cpu * 1e3,
        memory(&replica.process),
        memory(&envoy.process),
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

    async fn connect(&self, number: usize) -> Result<Open> {
        Ok(match self.layout {
            Layout::Tls => {
                let authority = self.authority.der();
                let host = self.host(number);
                Open::Tls(open_tls("127.0.0.1:8443", &host, &authority).await?.into())
            }
            Layout::OneHost | Layout::Cleartext => {
                Open::Cleartext(Connection::open("127.0.0.1:8080").await?)
            }
        })
    }

    /// Asks a route until it answers like this. Envoy may close the connection in between: then there is a new one.
    async fn poll(
        &self,
        connection: &mut Open,
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
            let change = self.mappings.patch(&name, &params, &object);
            let body = format!("two GET {rewrite}");
            times.add(self.time(change, number, 200, &body).await?);
        }
        Ok(times)
    }

    async fn adds(&self, count: usize) -> Result<Latencies> {
        let mut times = Latencies::default();
        for number in self.size..self.size + count {
            let object = serde_json::from_value(self.mapping(number, "one", "/"))?;
            let params = PostParams::default();
            let change = self.mappings.create(&params, &object);
            times.add(self.time(change, number, 200, "one").await?);
        }
        Ok(times)
    }

    async fn deletes(&self, count: usize) -> Result<Latencies> {
        let mut times = Latencies::default();
        for number in self.size..self.size + count {
            let (name, params) = (format!("m-{number}"), DeleteParams::default());
            let change = self.mappings.delete(&name, &params);
            times.add(self.time(change, number, 404, "").await?);
        }
        Ok(times)
    }

    /// Makes a change; the time until a route answers like this, from before the change and from after it.
    async fn time<T>(
        &self,
        change: impl Future<Output = kube::Result<T>>,
        number: usize,
        status: u16,
        body: &str,
    ) -> Result<(Duration, Duration)> {
        let mut connection = self.connect(number).await?;
        let sent = Instant::now();
        change.await?;
        let answered = Instant::now();
        self.poll(&mut connection, number, status, body).await?;
        Ok((sent.elapsed(), answered.elapsed()))
    }
}

/// A connection of either layout.
enum Open {
    Cleartext(Connection<TcpStream>),
    Tls(Box<Connection<TlsStream<TcpStream>>>),
}

impl Open {
    async fn get(&mut self, host: &str, path: &str) -> Result<Answer> {
        match self {
            Self::Cleartext(connection) => connection.get(host, path).await,
            Self::Tls(connection) => connection.get(host, path).await,
        }
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
            envoy_cpu: envoy.process.main_thread_cpu_seconds(),
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

/// Resident and proportional memory.
fn memory(process: &Process) -> String {
    format!(
        "{:.0} ({:.0})",
        process.memory_mib(),
        process.proportional_memory_mib()
    )
}

/// How long changes took, from sending them and from the answer to them.
#[derive(Default)]
struct Latencies {
    from_sending: Vec<Duration>,
    from_answer: Vec<Duration>,
}

impl Latencies {
    fn add(&mut self, (from_sending, from_answer): (Duration, Duration)) {
        self.from_sending.push(from_sending);
        self.from_answer.push(from_answer);
    }
}

impl fmt::Display for Latencies {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [p50, p99, max] = [50, 99, 100].map(|percent| at(percent, &self.from_sending));
        let answered = at(50, &self.from_answer);
        write!(f, "{p50:.1} / {p99:.1} / {max:.1} ({answered:.1})")
    }
}

/// A percentile in milliseconds.
fn at(percent: usize, times: &[Duration]) -> f64 {
    let mut sorted = times.to_vec();
    sorted.sort_unstable();
    let index = (sorted.len() * percent).div_ceil(100).saturating_sub(1);
    sorted
        .get(index)
        .map_or(0.0, |time| time.as_secs_f64() * 1e3)
}
