//! The watch of one service: blocking queries, one after the other.
//!
//! A query returns when the service changes, or after [`WAIT`]. By Consul's rules for such queries, an index that goes
//! backwards starts anew, an index is at least 1, and queries that are answered at once are slowed down. After a failure the
//! next query starts anew, too: an agent that was restarted may count from the start.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context as _, anyhow, bail};
use backon::{BackoffBuilder as _, ExponentialBuilder};
use http::StatusCode;
use nuncio_core::consul::{Agent, ConsulService};
use tokio::{sync::mpsc, task::spawn_blocking, time::sleep};

use super::{
    Environment, Event, Found,
    connection::{Answer, Connection},
    health::{Names, instances},
    slots::{Guest, Slots},
    target::Target,
};
use crate::printable::{printable, shortened};

/// How long the agent holds a query without a change.
const WAIT: Duration = Duration::from_secs(30);
/// How long an answer may take beyond that.
const ANSWER: Duration = Duration::from_secs(5);
/// Least time from one query to the next.
const PACE: Duration = Duration::from_millis(50);
/// Pauses after failures; jitter at most doubles one.
const BACKOFF: ExponentialBuilder = ExponentialBuilder::new()
    .with_min_delay(Duration::from_millis(250))
    .with_max_delay(Duration::from_secs(15))
    .without_max_times()
    .with_jitter();
/// Longest reason of a failure.
const MAX_REASON: usize = 200;
/// What an agent says of a query that fails. Other text is not shown: whoever answers may not be an agent.
const REASONS: [&str; 6] = [
    "ACL not found",
    "Permission denied",
    "No path to datacenter",
    "No cluster leader",
    "too many connections",
    "rpc error",
];

/// A watch to be run.
pub(super) struct Watch {
    pub(super) service: ConsulService,
    pub(super) epoch: u64,
    pub(super) agent: Arc<Agent>,
    pub(super) environment: Arc<Environment>,
    pub(super) slots: Arc<Slots>,
    pub(super) events: mpsc::Sender<Event>,
}

/// Where a watch is.
#[derive(Default)]
struct State {
    connection: Option<(Connection, Target)>,
    /// 0: the next query is answered at once.
    index: u64,
    names: Names,
}

impl Watch {
    /// Runs until the receiver of events is gone.
    pub(super) async fn run(self, _guest: Guest) {
        let mut state = State::default();
        let mut backoff = BACKOFF.build();
        loop {
            let started = Instant::now();
            let pause = match self.query(&mut state).await {
                Ok(()) => {
                    backoff = BACKOFF.build();
                    PACE.saturating_sub(started.elapsed())
                }
                Err(error) => {
                    state.connection = None;
                    state.index = 0;
                    let shown = self.environment.shown(self.agent.address.as_deref());
                    let reason = format!("{error:#}");
                    let reason = shortened(printable(&reason).into_owned(), MAX_REASON);
                    let failure = format!("Consul agent at {}: {reason}", printable(shown));
                    if !self.send(Found::Failure(failure)).await {
                        return;
                    }
                    backoff.next().unwrap_or(WAIT)
                }
            };
            if self.events.is_closed() {
                return;
            }
            sleep(pause).await;
        }
    }

    async fn send(&self, found: Found) -> bool {
        let event = Event {
            service: self.service.clone(),
            epoch: self.epoch,
            found,
        };
        self.events.send(event).await.is_ok()
    }

    /// One query, and what it has found.
    async fn query(&self, state: &mut State) -> anyhow::Result<()> {
        let answer = self.ask(state).await?;
        let index = index(&answer)?;
        let instances = instances(&answer.body).map_err(|_content| {
            anyhow!("the answer is not a list of instances; is it a Consul agent?")
        })?;
        let is_filtered = answer
            .headers
            .get("x-consul-results-filtered-by-acls")
            .is_some_and(|value| value == "true");
        if is_filtered && instances.is_empty() {
            bail!("the token lacks a permission: service:read and node:read are needed");
        }
        // addresses that need no DNS do not wait for it
        let known = state.names.addresses(&instances);
        if !known.is_empty() || instances.is_empty() {
            self.send(Found::Addresses(known)).await;
        }
        if state.names.resolve(&instances).await {
            let addresses = state.names.addresses(&instances);
            self.send(Found::Addresses(addresses)).await;
        }
        state.index = if index < state.index { 0 } else { index };
        Ok(())
    }

    /// Sends a query, on the connection that is there or on a new one.
    async fn ask(&self, state: &mut State) -> anyhow::Result<Answer> {
        let turn = self.slots.turn();
        let wait = turn.unwrap_or(WAIT);
        let _permit = self.slots.connection().await;
        let open = state.connection.take();
        let (mut connection, target) = match open.filter(|(open, _)| open.is_usable()) {
            Some(open) => open,
            None => {
                let (agent, environment) = (self.agent.clone(), self.environment.clone());
                let target = spawn_blocking(move || Target::new(&agent, &environment)).await??;
                (Connection::open(&target).await?, target)
            }
        };
        let path = path(&self.service, &target, state.index, wait);
        // an agent adds a sixteenth at most, so that not all queries end together
        let limit = match state.index {
            0 => ANSWER,
            _ => wait + wait / 16 + ANSWER,
        };
        let answer = connection.get(&target, &path, limit).await?;
        if answer.status != StatusCode::OK {
            bail!("{}", refusal(&answer));
        }
        if turn.is_none() {
            state.connection = Some((connection, target));
        }
        Ok(answer)
    }
}

/// The path of a query.
fn path(service: &ConsulService, target: &Target, index: u64, wait: Duration) -> String {
    // names have no characters that need an escape
    let mut path = format!(
        "/v1/health/service/{}?passing=true&dc={}",
        service.name, service.datacenter
    );
    for (name, value) in &target.parameters {
        let value: String = value
            .bytes()
            .map(|byte| match byte {
                b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' => {
                    char::from(byte).to_string()
                }
                byte => format!("%{byte:02X}"),
            })
            .collect();
        path.push_str(&format!("&{name}={value}"));
    }
    if index != 0 {
        path.push_str(&format!("&index={index}&wait={}ms", wait.as_millis()));
    }
    path
}

/// The index of an answer.
fn index(answer: &Answer) -> anyhow::Result<u64> {
    let index = answer.headers.get("x-consul-index");
    let index = index.context("the answer has no X-Consul-Index; is it a Consul agent?")?;
    let index: u64 = index
        .to_str()?
        .parse()
        .map_err(|_text| anyhow!("invalid X-Consul-Index"))?;
    Ok(index.max(1))
}

/// Why an agent does not answer a query.
fn refusal(answer: &Answer) -> String {
    let text = String::from_utf8_lossy(&answer.body);
    let reason = REASONS.iter().find(|reason| text.contains(**reason));
    match reason {
        Some(reason) => format!("HTTP {}: {reason}", answer.status.as_u16()),
        None => format!("HTTP {}", answer.status.as_u16()),
    }
}
