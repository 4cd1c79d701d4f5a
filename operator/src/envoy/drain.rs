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

/// Drains until nothing is open.
pub(super) async fn drain(address: &Address) -> anyhow::Result<()> {
    // responses from now on close their connections
    admin::request(address, Method::POST, "/healthcheck/fail").await?;
    admin::request(address, Method::POST, "/drain_listeners").await?;
    let mut was_open = true;
    loop {
        let stats = admin::request(address, Method::GET, STATS).await?;
        let is_open = open(&stats) > 0;
        // a request may have been on its way when they were counted
        if !is_open && !was_open {
            return Ok(());
        }
        was_open = is_open;
        sleep(PERIOD).await;
    }
}

/// Open requests, and connections of TCPMappings: those that listeners have and HTTP does not.
fn open(stats: &str) -> u64 {
    let mut sums: BTreeMap<(&str, &str), u64> = BTreeMap::new();
    for line in stats.lines() {
        let Some((name, value)) = line.rsplit_once(": ") else {
            continue;
        };
        let (Some((part, _)), Some((_, gauge))) = (name.split_once('.'), name.rsplit_once('.'))
        else {
            continue;
        };
        // this request itself, and what is counted twice
        if name.starts_with("http.admin.downstream_rq")
            || name.contains(".worker_")
            || name.contains(".main_thread.")
        {
            continue;
        }
        *sums.entry((part, gauge)).or_default() += value.parse::<u64>().unwrap_or_default();
    }
    let sum = |part, gauge| sums.get(&(part, gauge)).copied().unwrap_or_default();
    let tcp =
        sum("listener", "downstream_cx_active").saturating_sub(sum("http", "downstream_cx_active"));
    sum("http", "downstream_rq_active") + tcp
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_and_tcp_connections_are_open_and_idle_connections_are_not() {
        let idle = "http.admin.downstream_cx_active: 1\nhttp.admin.downstream_rq_active: 1\nhttp.ingress.downstream_cx_active: 3\nhttp.ingress.downstream_rq_active: 0\nlistener.admin.downstream_cx_active: 1\nlistener.admin.main_thread.downstream_cx_active: 1\nlistener.ingress.downstream_cx_active: 3\nlistener.ingress.worker_0.downstream_cx_active: 3\n";
        assert_eq!(open(idle), 0);
        let busy = idle.replace(
            "ingress.downstream_rq_active: 0",
            "ingress.downstream_rq_active: 2",
        );
        assert_eq!(open(&busy), 2);
        let tcp = format!("{idle}listener.db.downstream_cx_active: 4\n");
        assert_eq!(open(&tcp), 4);
        assert_eq!(open(""), 0);
    }
}
