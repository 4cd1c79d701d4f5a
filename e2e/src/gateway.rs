//! Replicas of Nuncio, and Envoys.

use std::{collections::BTreeMap, fs, path::Path, process::Command, time::Duration};

use anyhow::{Context as _, Result, ensure};
use rustix::process::Signal;
use serde_json::Value;

use crate::{
    control_plane::{ControlPlane, NAMESPACE, page},
    instance::Instance,
    process::Process,
    wait::until,
    workspace::{nuncio, tool},
};

/// A replica of the control plane.
#[derive(Debug)]
pub struct Replica {
    name: String,
    health: String,
    /// The process.
    pub process: Process,
}

impl Replica {
    /// Starts `nuncio operator` number `number` of an instance, and waits until it is ready.
    ///
    /// # Errors
    /// It does not become ready.
    pub async fn start(plane: &ControlPlane, instance: &Instance, number: u16) -> Result<Self> {
        Self::start_with(plane, instance, number, &instance.xds(number), &[]).await
    }

    /// Starts one that serves Envoys on the address of a pod.
    ///
    /// # Errors
    /// It does not become ready.
    pub async fn start_on_pod(
        plane: &ControlPlane,
        instance: &Instance,
        number: u16,
        address: &str,
    ) -> Result<Self> {
        Self::start_with(plane, instance, number, address, &["--xds-insecure"]).await
    }

    /// Starts one that serves Envoys on this address, with these flags.
    ///
    /// # Errors
    /// It does not become ready.
    pub async fn start_with(
        plane: &ControlPlane,
        instance: &Instance,
        number: u16,
        address: &str,
        flags: &[&str],
    ) -> Result<Self> {
        let kubeconfig = plane.operator_kubeconfig();
        let mut replica = Self::launch_at(&kubeconfig, instance, number, address, flags)?;
        replica.ready().await?;
        Ok(replica)
    }

    /// Starts one that finds the apiserver with this kubeconfig, and does not wait until it is ready.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn launch(kubeconfig: &Path, instance: &Instance, number: u16) -> Result<Self> {
        Self::launch_at(kubeconfig, instance, number, &instance.xds(number), &[])
    }

    fn launch_at(
        kubeconfig: &Path,
        instance: &Instance,
        number: u16,
        address: &str,
        flags: &[&str],
    ) -> Result<Self> {
        let name = instance.name("nuncio", number);
        let health = instance.health(number);
        let mut arguments = vec![
            "operator",
            "--xds-address",
            address,
            "--health-address",
            &health,
        ];
        arguments.extend(flags);
        let process = Process::start(
            &name,
            &nuncio()?,
            arguments,
            &[
                ("KUBECONFIG", &kubeconfig.display().to_string()),
                ("AMBASSADOR_ID", &instance.id),
                ("AMBASSADOR_NAMESPACE", NAMESPACE),
                (
                    "AMBASSADOR_ENVOY_BIND_ADDRESS",
                    &instance.address.to_string(),
                ),
                ("POD_NAME", &name),
                ("RUST_LOG", "info,nuncio::publish=debug"),
            ],
        )?;
        Ok(Self {
            name,
            health,
            process,
        })
    }

    /// Its `check_ready` page, if that has status 200.
    ///
    /// # Errors
    /// It is not ready; the error says why.
    pub async fn readiness(&self) -> Result<String> {
        page(&self.health, "/ambassador/v0/check_ready").await
    }

    /// Name of the replica, by which it holds the Lease.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Waits until it is ready.
    ///
    /// # Errors
    /// It exits, or does not become ready.
    pub async fn ready(&mut self) -> Result<()> {
        // with thousands of objects on a busy machine the first lists take longer than any other wait
        let mut result = self.check_ready().await;
        for _ in 0..2 {
            if result.is_err() && self.process.is_running() {
                result = self.check_ready().await;
            }
        }
        ensure!(
            self.process.is_running(),
            "{} exited; see {}",
            self.name,
            self.process.log.display()
        );
        result
    }

    async fn check_ready(&self) -> Result<()> {
        until("check_ready", || async { self.readiness().await.map(drop) }).await
    }

    /// The sum of a metric over its labels.
    ///
    /// # Errors
    /// There is no answer.
    pub async fn metric(&self, name: &str) -> Result<f64> {
        metric(&self.health, name).await
    }

    /// The same for those whose labels contain this text.
    ///
    /// # Errors
    /// There is no answer.
    pub async fn metric_with(&self, name: &str, label: &str) -> Result<f64> {
        let text = page(&self.health, "/metrics").await?;
        Ok(sum(text.lines().filter(|line| line.contains(label)), name))
    }
}

/// The sum of a metric over its labels, from `/metrics` at this address.
///
/// # Errors
/// There is no answer.
pub async fn metric(address: &str, name: &str) -> Result<f64> {
    let text = page(address, "/metrics").await?;
    Ok(sum(text.lines(), name))
}

/// The sum of a metric in these lines.
fn sum<'a>(lines: impl Iterator<Item = &'a str>, name: &str) -> f64 {
    let values = lines.filter_map(|line| {
        let rest = line.strip_prefix(name)?;
        let is_it = rest.starts_with('{') || rest.starts_with(' ');
        rest.rsplit(' ')
            .next()
            .filter(|_| is_it)?
            .parse::<f64>()
            .ok()
    });
    values.sum()
}

/// Sections of a dump of Envoy's configuration, and the place of a resource in their entries.
const CONFIGURATION: [(&str, &str); 4] = [
    ("dynamic_active_clusters", "/cluster"),
    ("dynamic_listeners", "/active_state/listener"),
    ("dynamic_route_configs", "/route_config"),
    ("dynamic_endpoint_configs", "/endpoint_config"),
];
const MORE: [(&str, &str); 3] = [
    ("dynamic_scoped_route_configs", "/scoped_route_configs"),
    ("dynamic_active_secrets", "/secret"),
    ("ecds_filters", "/ecds_filter"),
];

/// An Envoy.
#[derive(Debug)]
pub struct Envoy {
    name: String,
    program: &'static str,
    admin: String,
    folder: tempfile::TempDir,
    /// Flags of every start.
    flags: &'static [&'static str],
    /// The process.
    pub process: Process,
}

impl Envoy {
    /// Starts an Envoy with the bootstrap that `nuncio bootstrap` prints. `admin` is the address of its admin interface.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn start(name: &str, xds: &str, admin: &str, protocol: &str) -> Result<Self> {
        Self::start_program("envoy", name, [xds, admin, protocol], &[], &[])
    }

    /// Starts one with these further flags of `nuncio bootstrap`.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn start_bootstrapped(name: &str, xds: &str, admin: &str, flags: &[&str]) -> Result<Self> {
        Self::start_program("envoy", name, [xds, admin, "delta"], flags, &[])
    }

    /// Starts one with these flags, which it has after a restart, too.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn start_with_flags(
        name: &str,
        xds: &str,
        admin: &str,
        flags: &'static [&'static str],
    ) -> Result<Self> {
        Self::start_program("envoy", name, [xds, admin, "delta"], &[], flags)
    }

    /// Starts one of the minor version before.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn start_older(name: &str, xds: &str, admin: &str) -> Result<Self> {
        Self::start_program("older-envoy", name, [xds, admin, "delta"], &[], &[])
    }

    fn start_program(
        program: &'static str,
        name: &str,
        [xds, admin, protocol]: [&str; 3],
        bootstrap: &[&str],
        flags: &'static [&'static str],
    ) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let output = Command::new(nuncio()?)
            .args([
                "bootstrap",
                "--xds",
                xds,
                "--node-id",
                name,
                "--admin-address",
                admin,
                "--protocol",
                protocol,
            ])
            .args(bootstrap)
            .output()?;
        ensure!(
            output.status.success(),
            "nuncio bootstrap: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        fs::write(folder.path().join("bootstrap.yaml"), output.stdout)?;
        let process = run(program, name, &folder, flags)?;
        Ok(Self {
            name: name.to_owned(),
            program,
            admin: admin.to_owned(),
            folder,
            flags,
            process,
        })
    }

    /// Starts an Envoy with another bootstrap, such as one that is a client of the gateway. `admin` is the address
    /// of its admin interface there.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn start_with(name: &str, admin: &str, bootstrap: &str) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        fs::write(folder.path().join("bootstrap.yaml"), bootstrap)?;
        let process = run("envoy", name, &folder, &[])?;
        Ok(Self {
            name: name.to_owned(),
            program: "envoy",
            admin: admin.to_owned(),
            folder,
            flags: &[],
            process,
        })
    }

    /// Kills it and starts it again.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn restart(&mut self) -> Result<()> {
        self.restart_with(&[])
    }

    /// Kills it and starts it again, with these flags added.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn restart_with(&mut self, flags: &[&str]) -> Result<()> {
        self.process.kill();
        let flags = [self.flags, flags].concat();
        self.process = run(self.program, &self.name, &self.folder, &flags)?;
        Ok(())
    }

    /// Its configuration by type, without versions and times.
    ///
    /// # Errors
    /// There is no answer.
    pub async fn configuration(&self) -> Result<BTreeMap<String, Vec<String>>> {
        self.sections(&CONFIGURATION).await
    }

    /// The same with Secrets, route scopes and filters.
    ///
    /// # Errors
    /// There is no answer.
    pub async fn whole_configuration(&self) -> Result<BTreeMap<String, Vec<String>>> {
        self.sections(&[&CONFIGURATION[..], &MORE].concat()).await
    }

    /// The resources in these sections of a dump, each with the place of a resource in an entry. Without duplicates: a filter
    /// has an entry for each of its users.
    async fn sections(&self, places: &[(&str, &str)]) -> Result<BTreeMap<String, Vec<String>>> {
        let dump: Value = serde_json::from_str(&self.admin("/config_dump?include_eds").await?)?;
        let configs = dump["configs"].as_array().context("no configuration")?;
        let mut found = BTreeMap::new();
        for (section, place) in places {
            let mut resources: Vec<String> = configs
                .iter()
                .filter_map(|config| config[section].as_array())
                .flatten()
                .filter_map(|entry| Some(entry.pointer(place)?.to_string()))
                .collect();
            resources.sort();
            resources.dedup();
            found.insert((*section).to_owned(), resources);
        }
        Ok(found)
    }

    /// A page of its admin interface.
    ///
    /// # Errors
    /// There is no answer.
    pub async fn admin(&self, path: &str) -> Result<String> {
        page(&self.admin, path).await
    }

    /// Waits until it has a configuration.
    ///
    /// # Errors
    /// It receives none.
    pub async fn ready(&self) -> Result<()> {
        until("Envoy", || async { self.admin("/ready").await.map(drop) }).await
    }

    /// Sum of the statistics whose names end with this.
    ///
    /// # Errors
    /// There is no answer.
    pub async fn statistic(&self, name: &str) -> Result<u64> {
        let text = self.admin(&format!("/stats?filter={name}$")).await?;
        text.lines()
            .map(|line| {
                line.rsplit(' ')
                    .next()
                    .and_then(|value| value.parse::<u64>().ok())
                    .context("not a number")
            })
            .sum()
    }
}

fn run(program: &str, name: &str, folder: &tempfile::TempDir, flags: &[&str]) -> Result<Process> {
    let bootstrap = folder.path().join("bootstrap.yaml").display().to_string();
    let arguments = [
        "-c",
        &bootstrap,
        "--concurrency",
        "2",
        "--disable-hot-restart",
        "--log-level",
        "warning",
    ];
    let arguments = arguments.into_iter().chain(flags.iter().copied());
    Process::start(name, &tool(program)?, arguments, &[])
}

/// Sends a signal to a program that must then exit.
///
/// # Errors
/// It does not exit.
pub fn stops(process: &mut Process, signal: Signal) -> Result<()> {
    ensure!(
        process.stop(signal, Duration::from_secs(5)),
        "does not exit; see {}",
        process.log.display()
    );
    Ok(())
}
