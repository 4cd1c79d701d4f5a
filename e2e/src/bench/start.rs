//! Part `start`: how long it takes from nothing to the last route when Envoy, the control plane, or both start among many
//! objects, and what it costs to write the status of all of them.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use clap::ValueEnum as _;
use kube::{Api, api::DynamicObject};
use serde_json::{Value, json};
use tokio::time::sleep;

use crate::{
    certificate::Authority,
    client::{Connection, open_tls},
};

use super::{
    cost::{memory, settle},
    layout::{Layout, hostname},
    object,
    options::{Clusters, Options},
    rig::{HTTP, HTTPS, Rig},
    table,
};

/// Longest wait for a route.
const PATIENCE: Duration = Duration::from_secs(120);

/// What starts.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Starts {
    Envoy,
    ControlPlane,
    Both,
}

impl Starts {
    const ALL: [Self; 3] = [Self::Envoy, Self::ControlPlane, Self::Both];

    const fn name(self) -> &'static str {
        match self {
            Self::Envoy => "Envoy",
            Self::ControlPlane => "control plane",
            Self::Both => "both",
        }
    }
}

/// Measures all sizes, with one cluster for all Mappings and with one for each.
pub(super) async fn run(options: &Options) -> Result<()> {
    table::head(
        "Start. Times are in seconds, from the start of the processes, best and worst of the runs: until the control plane \
         is ready, which it is with its first snapshot; until Envoy is ready; until the last route of every host answers, \
         or, where Envoy keeps running, until a Mapping answers that was created before the start. CPU is in seconds, of \
         the median run: that of the control plane, that of Envoy's main thread. Memory is resident (proportional), in MiB.",
        &[
            "Mappings",
            "clusters",
            "starts",
            "control plane ready",
            "Envoy ready",
            "last route",
            "CPU",
            "CPU of Envoy",
            "memory",
            "memory of Envoy",
        ],
        &["starts"],
    );
    let layout = options.layout.unwrap_or(Layout::Tls);
    let mut statuses = Vec::new();
    for size in options.sizes(&[1_000, 10_000]) {
        for clusters in Clusters::value_variants() {
            if options.clusters.is_none_or(|only| only == *clusters) {
                let runs = options.edits.clamp(1, 5);
                statuses.extend(measure(size, layout, *clusters, runs).await?);
            }
        }
    }
    table::head(
        "Status of all Mappings, after the only Envoy has gone and after it has come back. Times are in seconds, from the \
         first write to the last; CPU of the control plane is in milliseconds for each write.",
        &[
            "Mappings",
            "clusters",
            "Envoy",
            "writes",
            "time",
            "CPU per write",
        ],
        &["Envoy"],
    );
    for row in statuses {
        table::row(&row);
    }
    Ok(())
}

/// Adds the rows about starts, and returns those about statuses.
async fn measure(
    size: usize,
    layout: Layout,
    clusters: Clusters,
    runs: usize,
) -> Result<Vec<Vec<String>>> {
    let authority = Authority::new()?;
    let rig = Rig::start(&layout.manifests(&authority)?).await?;
    let mut world = World {
        layout,
        size,
        clusters,
        authority,
        api: object::kind(&rig.client, "Mapping", "mappings"),
        rig,
    };
    world.load().await?;
    settle(&world.rig.replica).await?;
    for starts in Starts::ALL {
        let mut measured = Vec::new();
        for _ in 0..runs {
            measured.push(world.start(starts).await?);
            // the first writes of a leader come after a pause
            sleep(Duration::from_secs(8)).await;
            settle(&world.rig.replica).await?;
        }
        table::row(&world.row(starts, measured));
    }
    let gone = {
        world.rig.envoy.process.kill();
        world.status("gone").await?
    };
    world.rig.envoy.restart()?;
    Ok(vec![gone, world.status("back").await?])
}

/// One start.
struct Start {
    control_plane: f64,
    envoy: f64,
    route: f64,
    cpu: f64,
    envoy_cpu: f64,
}

struct World {
    rig: Rig,
    api: Api<DynamicObject>,
    layout: Layout,
    size: usize,
    clusters: Clusters,
    authority: Authority,
}

impl World {
    fn mapping(&self, number: usize) -> Value {
        let mut mapping = json!({
            "apiVersion": "getambassador.io/v3alpha1",
            "kind": "Mapping",
            "metadata": {"name": format!("m-{number}")},
            "spec": {"hostname": hostname(number % self.layout.hosts()), "prefix": format!("/m-{number}/"), "service": "one"}
        });
        if self.clusters == Clusters::Own {
            mapping["spec"]["cluster_tag"] = json!(format!("m{number}"));
        }
        mapping
    }

    async fn load(&self) -> Result<()> {
        let create = |number| object::create(&self.api, self.mapping(number));
        object::for_each(0..self.size, create).await?;
        self.routes(Instant::now()).await.map(drop)
    }

    /// When the last route of every host answered, in seconds: hosts that answer at once do not count.
    async fn routes(&self, since: Instant) -> Result<f64> {
        let hosts = self.layout.hosts();
        let mut last = 0.0;
        // newest first: what has come last is waited for
        for number in (self.size - hosts.min(self.size)..self.size).rev() {
            if self.route(number).await? || last == 0.0 {
                last = since.elapsed().as_secs_f64();
            }
        }
        Ok(last)
    }

    /// Waits until a route answers; whether it did not at once.
    async fn route(&self, number: usize) -> Result<bool> {
        let start = Instant::now();
        let (host, path) = (
            hostname(number % self.layout.hosts()),
            format!("/m-{number}/"),
        );
        let mut has_waited = false;
        loop {
            if let Ok(mut connection) = self.connect(&host).await
                && let Ok(answer) = connection.get(&host, &path).await
                && answer.status == 200
            {
                return Ok(has_waited);
            }
            ensure!(start.elapsed() < PATIENCE, "m-{number} does not answer");
            has_waited = true;
            sleep(Duration::from_millis(2)).await;
        }
    }

    async fn connect(&self, host: &str) -> Result<Connection> {
        match self.layout {
            Layout::Tls => open_tls(HTTPS, host, &self.authority.der()).await,
            Layout::One | Layout::Cleartext => Connection::open(HTTP).await,
        }
    }

    async fn start(&mut self, starts: Starts) -> Result<Start> {
        let (has_envoy, has_plane) = (starts != Starts::ControlPlane, starts != Starts::Envoy);
        if has_envoy {
            self.rig.envoy.process.kill();
        }
        if has_plane {
            self.rig.replica.process.kill();
        }
        if !has_envoy {
            object::create(&self.api, self.mapping(self.size)).await?;
            self.size += 1;
        }
        let since = Instant::now();
        let before = if has_plane {
            self.rig.launch_replica()?;
            0.0
        } else {
            self.rig.replica.process.cpu_seconds()
        };
        if has_envoy {
            self.rig.envoy.restart()?;
        }
        let control_plane = self.rig.replica_ready(since).await?;
        let envoy = self.rig.envoy_ready(since).await?;
        let route = self.routes(since).await?;
        Ok(Start {
            control_plane,
            envoy,
            route,
            cpu: self.rig.replica.process.cpu_seconds() - before,
            envoy_cpu: self.rig.envoy.process.main_thread_cpu_seconds(),
        })
    }

    fn clusters(&self) -> String {
        self.clusters.number(self.size).to_string()
    }

    fn row(&self, starts: Starts, mut measured: Vec<Start>) -> Vec<String> {
        measured.sort_by(|one, other| one.route.total_cmp(&other.route));
        let range = |of: fn(&Start) -> f64| {
            let mut all: Vec<f64> = measured.iter().map(of).collect();
            all.sort_by(f64::total_cmp);
            format!("{:.2} to {:.2}", all[0], all[all.len() - 1])
        };
        let median = &measured[measured.len() / 2];
        let [control_plane, envoy, route] = [
            range(|start| start.control_plane),
            range(|start| start.envoy),
            range(|start| start.route),
        ];
        let only = |is: bool, text: String| if is { text } else { String::new() };
        let has_envoy = starts != Starts::ControlPlane;
        vec![
            self.size.to_string(),
            self.clusters(),
            starts.name().to_owned(),
            only(starts != Starts::Envoy, control_plane),
            only(has_envoy, envoy),
            route,
            format!("{:.2}", median.cpu),
            only(has_envoy, format!("{:.2}", median.envoy_cpu)),
            memory(&self.rig.replica.process),
            memory(&self.rig.envoy.process),
        ]
    }

    /// Waits until statuses are written, and until no more are.
    #[expect(clippy::cast_precision_loss, reason = "a small number")]
    async fn status(&self, envoy: &str) -> Result<Vec<String>> {
        let replica = &self.rig.replica;
        let total = || replica.metric("nuncio_status_writes_total");
        let before = total().await?;
        let waiting = Instant::now();
        while total().await? <= before + 1.0 {
            ensure!(waiting.elapsed() < PATIENCE, "no status is written");
            sleep(Duration::from_millis(20)).await;
        }
        let (start, cpu) = (Instant::now(), replica.process.cpu_seconds());
        let mut last = (start, cpu, before);
        let mut quiet = 0;
        while quiet < 8 {
            sleep(Duration::from_millis(250)).await;
            let now = total().await?;
            quiet = if now > last.2 { 0 } else { quiet + 1 };
            if quiet == 0 {
                last = (Instant::now(), replica.process.cpu_seconds(), now);
            }
        }
        let writes = last.2 - before;
        ensure!(
            writes >= self.size as f64,
            "{writes} statuses are written of {} Mappings",
            self.size
        );
        Ok(vec![
            self.size.to_string(),
            self.clusters(),
            envoy.to_owned(),
            format!("{writes:.0}"),
            format!("{:.1}", (last.0 - start).as_secs_f64()),
            format!("{:.2}", (last.1 - cpu) / writes * 1e3),
        ])
    }
}
