//! Constant traffic of every sort through a gateway, which counts what is lost.
//!
//! Each lane sends one exchange after the other: a request, a WebSocket session of two seconds, or a download of three. An
//! exchange is lost unless it succeeds completely. A connection that the gateway closes in order is replaced: after
//! `connection: close`, GOAWAY, or a close between two requests. A new connection that is closed before it has carried
//! anything is a loss.

use std::{
    fmt::Write as _,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use anyhow::{Result, ensure};
use rustls::ClientConfig;
use tokio::{sync::watch, task::JoinHandle, time::sleep};

pub mod backend;
mod lane;

use self::lane::{Lane, Sort};

/// Pause between two exchanges of a lane.
const PAUSE: Duration = Duration::from_millis(20);
/// Most losses that are described.
const DESCRIBED: usize = 3;

/// Where traffic goes.
#[derive(Clone, Debug)]
pub struct Target {
    /// The host name of requests.
    pub host: String,
    /// An address without TLS.
    pub http: String,
    /// An address with TLS, and how to connect; none for traffic without TLS only.
    pub https: Option<(String, ClientConfig)>,
}

/// Running traffic.
#[derive(Debug)]
pub struct Traffic {
    stop: watch::Sender<bool>,
    lanes: Vec<Running>,
}

#[derive(Debug)]
struct Running {
    sort: Sort,
    count: Arc<Count>,
    task: JoinHandle<()>,
}

#[derive(Debug, Default)]
struct Count {
    sent: AtomicU64,
    lost: Mutex<Vec<String>>,
}

/// What traffic has come to.
#[derive(Debug)]
pub struct Outcome {
    /// Name, exchanges, and what was lost, of each lane.
    pub lanes: Vec<(&'static str, u64, Vec<String>)>,
}

impl Traffic {
    /// Starts a lane of each sort.
    #[must_use]
    pub fn start(target: &Target) -> Self {
        let stop = watch::Sender::new(false);
        let sorts = Sort::ALL
            .into_iter()
            .filter(|sort| !sort.has_tls() || target.https.is_some());
        let lanes = sorts.map(|sort| {
            let count = Arc::new(Count::default());
            let lane = Lane::new(sort, target.clone());
            let task = tokio::spawn(run(lane, count.clone(), stop.subscribe()));
            Running { sort, count, task }
        });
        Self {
            lanes: lanes.collect(),
            stop,
        }
    }

    /// Waits until each lane has completed an exchange that begins after this call, but not for lanes with long ones
    /// unless `long`.
    pub async fn proceeds(&self, long: bool) {
        for lane in &self.lanes {
            if lane.sort.is_long() && !long {
                continue;
            }
            let start = lane.count.sent.load(Ordering::Relaxed);
            while lane.count.sent.load(Ordering::Relaxed) < start + 2 {
                sleep(PAUSE).await;
            }
        }
    }

    /// What it has come to so far.
    #[must_use]
    pub fn outcome(&self) -> Outcome {
        let lanes = self.lanes.iter().map(|lane| {
            let lost = lane
                .count
                .lost
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            let sent = lane.count.sent.load(Ordering::Relaxed);
            (lane.sort.name(), sent, lost.clone())
        });
        Outcome {
            lanes: lanes.collect(),
        }
    }

    /// Stops it after the exchanges that are under way.
    ///
    /// # Errors
    /// A lane has panicked.
    pub async fn finish(mut self) -> Result<Outcome> {
        self.stop.send_replace(true);
        for lane in &mut self.lanes {
            (&mut lane.task).await?;
        }
        Ok(self.outcome())
    }
}

async fn run(mut lane: Lane, count: Arc<Count>, mut stop: watch::Receiver<bool>) {
    loop {
        if let Err(error) = lane.exchange().await {
            let number = count.sent.load(Ordering::Relaxed);
            let mut lost = count.lost.lock().unwrap_or_else(PoisonError::into_inner);
            lost.push(format!("exchange {number}: {error:#}"));
        }
        count.sent.fetch_add(1, Ordering::Relaxed);
        tokio::select! {
            _ = stop.wait_for(|stop| *stop) => return,
            () = sleep(PAUSE) => {}
        }
    }
}

impl Outcome {
    /// Number of exchanges.
    #[must_use]
    pub fn sent(&self) -> u64 {
        self.lanes.iter().map(|(_, sent, _)| sent).sum()
    }

    /// Number of exchanges that were lost.
    #[must_use]
    pub fn lost(&self) -> usize {
        self.lanes.iter().map(|(.., lost)| lost.len()).sum()
    }

    /// What has come since an earlier outcome of the same traffic.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Self {
        let lanes = self.lanes.iter().zip(&earlier.lanes);
        let lanes = lanes.map(|((name, sent, lost), (_, before, known))| {
            (*name, sent - before, lost[known.len()..].to_vec())
        });
        Self {
            lanes: lanes.collect(),
        }
    }

    /// Succeeds if nothing was lost.
    ///
    /// # Errors
    /// Names the lanes with losses, and the first losses of each.
    pub fn complete(&self) -> Result<()> {
        let mut text = String::new();
        for (name, sent, lost) in &self.lanes {
            if !lost.is_empty() {
                let described = lost[..lost.len().min(DESCRIBED)].join("; ");
                let _ = write!(text, "\n  {name}: {} of {sent}: {described}", lost.len());
            }
        }
        ensure!(
            text.is_empty(),
            "{} exchanges were lost:{text}",
            self.lost()
        );
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::{backend::TrafficBackend, *};

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn one_loss_is_noticed_on_each_lane() {
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let http = free.local_addr().unwrap().to_string();
        drop(free);
        let backend = TrafficBackend::start(&http).await.unwrap();
        let target = Target {
            host: "localhost".to_owned(),
            http,
            https: None,
        };
        let traffic = Traffic::start(&target);
        traffic.proceeds(false).await;
        let outcome = traffic.finish().await.unwrap();
        outcome.complete().unwrap();
        let traffic = Traffic::start(&target);
        for (name, ..) in &outcome.lanes {
            backend.spoil(name);
        }
        traffic.proceeds(true).await;
        for (name, sent, lost) in traffic.finish().await.unwrap().lanes {
            assert_eq!(lost.len(), 1, "{name} of {sent}: {lost:?}");
        }
    }
}
