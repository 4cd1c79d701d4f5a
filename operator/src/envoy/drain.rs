//! Before an Envoy is stopped, its open requests end: it accepts no connections any more, and asks clients to close those
//! that they have.

use std::{collections::BTreeMap, time::Duration};

use axum::http::Method;
use nuncio_xds::socket::Address;
use tokio::time::sleep;

use super::admin;

/// How often open requests are counted.
const PERIOD: Duration = Duration::from_millis(50);
/// Gauges of requests and connections.
const STATS: &str = "/stats?filter=downstream_(rq|cx)_active$";

/// Drains until no request is open.
pub(super) async fn drain(address: &Address) -> anyhow::Result<()> {
    close_connections(address).await?;
    stop_listening(address).await?;
    let mut was_open = true;
    loop {
        let is_open = open(address).await?.requests > 0;
        // a request may have been on its way when they were counted
        if !is_open && !was_open {
            return Ok(());
        }
        was_open = is_open;
        sleep(PERIOD).await;
    }
}

/// From now on Envoy's own health checks fail, and responses close their connections (`connection: close`, GOAWAY).
pub(crate) async fn close_connections(address: &Address) -> anyhow::Result<()> {
    let failed = admin::request(address, Method::POST, "/healthcheck/fail");
    failed.await.map(drop)
}

/// From now on no connections are accepted.
pub(crate) async fn stop_listening(address: &Address) -> anyhow::Result<()> {
    let stopped = admin::request(address, Method::POST, "/drain_listeners");
    stopped.await.map(drop)
}

/// What clients have open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Open {
    /// Requests, upgraded connections, and connections of TCPMappings.
    pub(crate) requests: u64,
    /// Connections, idle ones included.
    pub(crate) connections: u64,
}

/// Counts what clients have open.
pub(crate) async fn open(address: &Address) -> anyhow::Result<Open> {
    let stats = admin::request(address, Method::GET, STATS).await?;
    Ok(count(&stats))
}

/// A connection of a TCPMapping is one that listeners have and HTTP does not.
fn count(stats: &str) -> Open {
    let mut sums: BTreeMap<(&str, &str), u64> = BTreeMap::new();
    for line in stats.lines() {
        let Some((name, value)) = line.rsplit_once(": ") else {
            continue;
        };
        let (Some((part, _)), Some((_, gauge))) = (name.split_once('.'), name.rsplit_once('.'))
        else {
            continue;
        };
        // the connection of this request itself, and what is counted twice
        if name.starts_with("http.admin.")
            || name.starts_with("listener.admin.")
            || name.contains(".worker_")
            || name.contains(".main_thread.")
        {
            continue;
        }
        *sums.entry((part, gauge)).or_default() += value.parse::<u64>().unwrap_or_default();
    }
    let sum = |part, gauge| sums.get(&(part, gauge)).copied().unwrap_or_default();
    let (listeners, http) = (
        sum("listener", "downstream_cx_active"),
        sum("http", "downstream_cx_active"),
    );
    Open {
        requests: sum("http", "downstream_rq_active") + listeners.saturating_sub(http),
        connections: listeners.max(http),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open(requests: u64, connections: u64) -> Open {
        Open {
            requests,
            connections,
        }
    }

    #[test]
    fn requests_and_tcp_connections_are_open_and_idle_connections_are_not() {
        let idle = "http.admin.downstream_cx_active: 1\nhttp.admin.downstream_rq_active: 1\nhttp.ingress.downstream_cx_active: 3\nhttp.ingress.downstream_rq_active: 0\nlistener.admin.downstream_cx_active: 1\nlistener.admin.main_thread.downstream_cx_active: 1\nlistener.ingress.downstream_cx_active: 3\nlistener.ingress.worker_0.downstream_cx_active: 3\n";
        assert_eq!(count(idle), open(0, 3));
        let busy = idle.replace(
            "ingress.downstream_rq_active: 0",
            "ingress.downstream_rq_active: 2",
        );
        assert_eq!(count(&busy), open(2, 3));
        let tcp = format!("{idle}listener.db.downstream_cx_active: 4\n");
        assert_eq!(count(&tcp), open(4, 7));
        assert_eq!(count(""), open(0, 0));
    }
}
