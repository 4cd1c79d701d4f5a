//! Probes of a container: startup, then readiness and liveness.

use std::{future::pending, net::Ipv4Addr, time::Duration};

use anyhow::{Context as _, Result, bail, ensure};
use k8s_openapi::{
    api::core::v1::{Container, HTTPGetAction, Probe},
    apimachinery::pkg::util::intstr::IntOrString,
};
use tokio::{
    sync::watch,
    time::{sleep, timeout},
};

use super::{
    container::State,
    process::{Running, connects},
};
use crate::client::Connection;

/// Probes a container; returns why it must be restarted.
pub(super) async fn run(
    container: &Container,
    running: &Running,
    address: Ipv4Addr,
    state: &watch::Sender<State>,
) -> String {
    let target = Target {
        container,
        running,
        address,
    };
    if let Some(probe) = &container.startup_probe
        && let Some(error) = target.until_started(probe).await
    {
        return format!("startup probe failed: {error:#}");
    }
    state.send_modify(|state| state.is_started = true);
    tokio::select! {
        () = readiness(container, running, address, state) => pending().await,
        error = target.until_dead() => format!("liveness probe failed: {error:#}"),
    }
}

/// Keeps the readiness of a container up to date. Ends never.
pub(super) async fn readiness(
    container: &Container,
    running: &Running,
    address: Ipv4Addr,
    state: &watch::Sender<State>,
) {
    let target = Target {
        container,
        running,
        address,
    };
    let set = |is_ready| {
        state.send_if_modified(|state| {
            let is_new = state.is_ready != is_ready;
            state.is_ready = is_ready;
            is_new
        });
    };
    let Some(probe) = &container.readiness_probe else {
        set(true);
        return pending().await;
    };
    let mut streak = Streak::default();
    sleep(seconds(probe.initial_delay_seconds, 0)).await;
    loop {
        match streak.after(target.attempt(probe).await.is_ok()) {
            (true, successes) if successes >= count(probe.success_threshold, 1) => set(true),
            (false, failures) if failures >= count(probe.failure_threshold, 3) => set(false),
            _ => {}
        }
        sleep(seconds(probe.period_seconds, 10)).await;
    }
}

/// Equal results in a row.
#[derive(Default)]
struct Streak {
    result: bool,
    length: u32,
}

impl Streak {
    fn after(&mut self, result: bool) -> (bool, u32) {
        self.length = if result == self.result {
            self.length + 1
        } else {
            1
        };
        self.result = result;
        (result, self.length)
    }
}

/// What is probed.
struct Target<'a> {
    container: &'a Container,
    running: &'a Running,
    address: Ipv4Addr,
}

impl Target<'_> {
    /// Returns an error if it does not start.
    async fn until_started(&self, probe: &Probe) -> Option<anyhow::Error> {
        sleep(seconds(probe.initial_delay_seconds, 0)).await;
        let mut failures = 0;
        loop {
            match self.attempt(probe).await {
                Ok(()) => return None,
                Err(error) => {
                    failures += 1;
                    if failures >= count(probe.failure_threshold, 3) {
                        return Some(error);
                    }
                }
            }
            sleep(seconds(probe.period_seconds, 10)).await;
        }
    }

    /// Returns once the liveness probe has failed too often.
    async fn until_dead(&self) -> anyhow::Error {
        let Some(probe) = &self.container.liveness_probe else {
            return pending().await;
        };
        sleep(seconds(probe.initial_delay_seconds, 0)).await;
        let mut failures = 0;
        loop {
            match self.attempt(probe).await {
                Ok(()) => failures = 0,
                Err(error) => {
                    failures += 1;
                    if failures >= count(probe.failure_threshold, 3) {
                        return error;
                    }
                }
            }
            sleep(seconds(probe.period_seconds, 10)).await;
        }
    }

    async fn attempt(&self, probe: &Probe) -> Result<()> {
        let patience = seconds(probe.timeout_seconds, 1);
        timeout(patience, self.once(probe))
            .await
            .context("no answer within timeoutSeconds")?
    }

    async fn once(&self, probe: &Probe) -> Result<()> {
        if let Some(http) = &probe.http_get {
            return get(http, self.container, self.address).await;
        }
        if let Some(tcp) = &probe.tcp_socket {
            return connects(self.address, port(&tcp.port, self.container)?).await;
        }
        if let Some(exec) = &probe.exec {
            return self
                .running
                .execute(exec.command.as_deref().unwrap_or_default())
                .await;
        }
        bail!("unsupported type of probe")
    }
}

/// A request as probes and hooks make it.
pub(super) async fn get(
    action: &HTTPGetAction,
    container: &Container,
    address: Ipv4Addr,
) -> Result<()> {
    ensure!(
        action.scheme.as_deref().unwrap_or("HTTP") == "HTTP",
        "unsupported scheme of a probe"
    );
    let host = action.host.clone().unwrap_or_else(|| address.to_string());
    let address = format!("{host}:{}", port(&action.port, container)?);
    let headers = action.http_headers.iter().flatten();
    let headers: Vec<(&str, &str)> = headers
        .map(|header| (&*header.name, &*header.value))
        .collect();
    let path = action.path.as_deref().unwrap_or("/");
    let mut connection = Connection::open(&address).await?;
    let answer = connection.get_with(&address, path, &headers).await?;
    ensure!(
        (200..400).contains(&answer.status),
        "status {}",
        answer.status
    );
    Ok(())
}

fn port(port: &IntOrString, container: &Container) -> Result<u16> {
    let number = match port {
        IntOrString::Int(number) => *number,
        IntOrString::String(name) => {
            let mut ports = container.ports.iter().flatten();
            let found = ports.find(|port| port.name.as_ref() == Some(name));
            found
                .with_context(|| format!("no port {name}"))?
                .container_port
        }
    };
    Ok(u16::try_from(number)?)
}

fn seconds(value: Option<i32>, default: u64) -> Duration {
    Duration::from_secs(value.map_or(default, |value| u64::from(value.unsigned_abs())))
}

fn count(value: Option<i32>, default: u32) -> u32 {
    value.map_or(default, i32::unsigned_abs)
}
