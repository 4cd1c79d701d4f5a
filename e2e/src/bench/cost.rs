//! What changes cost: CPU time, bytes and memory.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

use crate::{gateway::Replica, process::Process};

use super::rig::Rig;

/// Longest wait for status to be written: that of 10,000 Hosts and as many Mappings takes 400 s.
const PATIENCE: Duration = Duration::from_secs(900);

/// What has been used so far.
pub(super) struct Cost {
    /// CPU time of the operator, in seconds.
    pub(super) cpu: f64,
    /// CPU time of Envoy's main thread, in seconds.
    pub(super) envoy_cpu: f64,
    /// Bytes sent to Envoy.
    pub(super) bytes: f64,
}

impl Cost {
    /// What has been used by now.
    pub(super) async fn now(rig: &Rig) -> Result<Self> {
        Ok(Self {
            cpu: rig.replica.process.cpu_seconds(),
            envoy_cpu: rig.envoy.process.main_thread_cpu_seconds(),
            bytes: rig.replica.metric("nuncio_xds_push_bytes_total").await?,
        })
    }

    /// What each of these changes has used.
    #[expect(clippy::cast_precision_loss, reason = "a small number")]
    pub(super) fn since(&self, before: &Self, changes: usize) -> Self {
        let changes = changes as f64;
        Self {
            cpu: (self.cpu - before.cpu) / changes,
            envoy_cpu: (self.envoy_cpu - before.envoy_cpu) / changes,
            bytes: (self.bytes - before.bytes) / changes,
        }
    }
}

/// Waits until no status is waiting to be written.
pub(super) async fn settle(replica: &Replica) -> Result<()> {
    let start = Instant::now();
    let mut quiet = 0;
    while quiet < 3 {
        let pending = replica.metric("nuncio_status_pending").await?;
        quiet = if pending < 0.5 { quiet + 1 } else { 0 };
        ensure!(
            start.elapsed() < PATIENCE,
            "{pending} statuses are still to be written"
        );
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
    Ok(())
}

/// Resident and proportional memory.
pub(super) fn memory(process: &Process) -> String {
    format!(
        "{:.0} ({:.0})",
        process.memory_mib(),
        process.proportional_memory_mib()
    )
}
