//! The StatsD server that Emissary's variables name: environment → where Envoys send statistics.

use std::net::{SocketAddr, ToSocketAddrs as _};

use nuncio_xds::bootstrap::{Statsd, StatsdFormat};
use tracing::warn;

/// The port is fixed, as in Emissary.
const PORT: u16 = 8125;

/// What the environment of this process says.
pub(crate) fn from_env() -> Option<Statsd> {
    statsd(|name| std::env::var(name).ok())
}

/// Reads the variables through `variable`. A host that is not found is logged, and costs only the statistics.
fn statsd(variable: impl Fn(&str) -> Option<String>) -> Option<Statsd> {
    let variable = |name: &str| variable(name).filter(|value| !value.is_empty());
    let is_true = |name| variable(name).is_some_and(|value| value.eq_ignore_ascii_case("true"));
    if !is_true("STATSD_ENABLED") {
        return None;
    }
    let host = variable("STATSD_HOST").unwrap_or_else(|| "statsd-sink".to_owned());
    let found = (host.as_str(), PORT).to_socket_addrs();
    let addresses: Vec<SocketAddr> = found.map(Iterator::collect).unwrap_or_default();
    let ipv4 = addresses.iter().find(|address| address.is_ipv4());
    let Some(address) = ipv4.or(addresses.first()) else {
        warn!(%host, "STATSD_HOST not found; statistics are not sent");
        return None;
    };
    let interval = variable("STATSD_FLUSH_INTERVAL").and_then(|text| text.parse().ok());
    Some(Statsd {
        address: *address,
        interval_seconds: interval.filter(|seconds| *seconds > 0).unwrap_or(1),
        format: if is_true("DOGSTATSD") {
            StatsdFormat::Dog(variable("DD_ENTITY_ID"))
        } else {
            StatsdFormat::Plain
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(variables: &[(&str, &str)]) -> Option<Statsd> {
        statsd(|name| {
            let found = variables.iter().find(|(found, _)| *found == name);
            found.map(|(_, value)| (*value).to_owned())
        })
    }

    #[test]
    fn variables_name_a_server() {
        assert_eq!(of(&[("STATSD_HOST", "127.0.0.1")]), None);
        assert_eq!(
            of(&[("STATSD_ENABLED", "1"), ("STATSD_HOST", "127.0.0.1")]),
            None
        );
        let enabled = [("STATSD_ENABLED", "TRUE"), ("STATSD_HOST", "127.0.0.1")];
        let plain = of(&enabled).unwrap();
        assert_eq!(plain.address.to_string(), "127.0.0.1:8125");
        assert_eq!(
            (plain.interval_seconds, plain.format),
            (1, StatsdFormat::Plain)
        );
        let more = [
            ("DOGSTATSD", "true"),
            ("DD_ENTITY_ID", "x"),
            ("STATSD_FLUSH_INTERVAL", "7"),
        ];
        let dog = of(&[enabled.as_slice(), &more].concat()).unwrap();
        assert_eq!(dog.interval_seconds, 7);
        assert_eq!(dog.format, StatsdFormat::Dog(Some("x".to_owned())));
        let nowhere = [("STATSD_ENABLED", "true"), ("STATSD_HOST", "no such host")];
        assert_eq!(of(&nowhere), None);
    }
}
