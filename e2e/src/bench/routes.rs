//! Part `routes`: how fast the first and the last of many routes of one host answer, as a ratio.
//!
//! Both are asked in short rounds that take turns, on the same connections, so that whatever else the machine does meets
//! both alike. All routes are redirects: without a backend, finding the route is the largest part that it can be of the
//! work of a request.

use std::{fmt::Write as _, fs};

use anyhow::{Result, ensure};

use crate::{
    client::get, gateway::Envoy, instance::Instance, process::Process, wait::until,
    workspace::nuncio,
};

use super::{
    options::Options,
    quantile::quantile,
    rig, route_list, table,
    throughput::{Load, Round},
};

const HOST: &str = "routes.example";

/// The Listener and the Host.
const MANIFESTS: &str = "\
apiVersion: getambassador.io/v3alpha1
kind: Listener
metadata: {name: http}
spec: {port: 8080, protocol: HTTP, securityModel: XFP, hostBinding: {namespace: {from: ALL}}}
---
apiVersion: getambassador.io/v3alpha1
kind: Host
metadata: {name: routes}
spec: {hostname: routes.example, requestPolicy: {insecure: {action: Route}}}
---
";

/// Measures all sizes.
pub(super) async fn run(options: &Options) -> Result<()> {
    table::head(
        "Requests to the first and the last route of one host: medians over rounds, of ratios with quartiles. CPU is \
         that of Envoy for each request, in microseconds; latencies are p50 / p99, in microseconds. The noise is what \
         the ratio of throughput comes to between two rounds of the first route.",
        &[
            "Mappings",
            "routes are",
            "first, per s",
            "last, per s",
            "last / first",
            "noise",
            "CPU of first",
            "CPU of last",
            "CPU last / first",
            "latency of first",
            "latency of last",
        ],
        &["routes are"],
    );
    for size in options.sizes(&[10_000]) {
        by_nuncio(size, options).await?;
        by_list(size, options).await?;
    }
    Ok(())
}

/// All prefixes with where they redirect to, first route first: texts of equal length are in descending order.
fn redirects(size: usize) -> Vec<(String, String)> {
    let redirect = |number| (format!("/m-{number:06}/"), format!("/to-{number:06}"));
    (0..size).rev().map(redirect).collect()
}

/// The routes as Nuncio renders them.
async fn by_nuncio(size: usize, options: &Options) -> Result<()> {
    let folder = tempfile::tempdir()?;
    let mut manifests = MANIFESTS.to_owned();
    for (number, (prefix, path)) in redirects(size).iter().enumerate() {
        write!(
            manifests,
            "apiVersion: getambassador.io/v3alpha1\nkind: Mapping\nmetadata: {{name: m-{number}}}\n\
             spec: {{hostname: {HOST}, prefix: {prefix}, service: elsewhere.example, host_redirect: true, path_redirect: {path}}}\n---\n",
        )?;
    }
    fs::write(folder.path().join("manifests.yaml"), manifests)?;
    let arguments = ["serve".as_ref(), folder.path().as_os_str()];
    let _nuncio = Process::start("nuncio-serve", &nuncio()?, arguments, &[])?;
    let instance = Instance::default();
    let envoy = Envoy::start("bench-envoy", &instance.xds(0), &instance.admin(0), "delta")?;
    measure(size, "as Nuncio renders them", &envoy, rig::HTTP, options).await
}

/// The routes as a plain list.
async fn by_list(size: usize, options: &Options) -> Result<()> {
    let bootstrap = route_list::bootstrap(HOST, &redirects(size));
    let envoy = Envoy::start_with("bench-list", route_list::ADMIN, &bootstrap)?;
    measure(size, "a list", &envoy, route_list::HTTP, options).await
}

async fn measure(
    size: usize,
    routes: &str,
    envoy: &Envoy,
    address: &str,
    options: &Options,
) -> Result<()> {
    let redirects = redirects(size);
    let (Some(first), Some(last)) = (redirects.first(), redirects.last()) else {
        return Ok(());
    };
    for (prefix, path) in [first, last] {
        until("a route", || answers(address, prefix, path)).await?;
    }
    let mut load = Load::open(address, options.connections).await?;
    let mut rounds = [Vec::new(), Vec::new()];
    // the first pair warms up; who begins takes turns as well
    for pair in 0..=options.rounds {
        let turns = if pair % 2 == 0 { [0, 1] } else { [1, 0] };
        for place in turns {
            let (prefix, _) = [first, last][place];
            let round = load.round(&envoy.process, HOST, prefix, options.round());
            let round = round.await?;
            if pair > 0 {
                rounds[place].push(round);
            }
        }
    }
    table::row(&row(size, routes, &rounds));
    Ok(())
}

async fn answers(address: &str, prefix: &str, path: &str) -> Result<()> {
    let answer = get(address, HOST, prefix).await?;
    let location = answer.headers.get("location");
    ensure!(
        location.is_some_and(|location| location.ends_with(path)),
        "{prefix} answers {} {location:?}",
        answer.status
    );
    Ok(())
}

fn row(size: usize, routes: &str, [first, last]: &[Vec<Round>; 2]) -> Vec<String> {
    let throughput = |rounds: &[Round]| collect(rounds, |round| round.throughput);
    let cpu = |rounds: &[Round]| collect(rounds, |round| round.cpu);
    let median = |samples: &[f64]| quantile(50, samples);
    vec![
        size.to_string(),
        routes.to_owned(),
        format!("{:.0}", median(&throughput(first))),
        format!("{:.0}", median(&throughput(last))),
        ratio(&throughput(last), &throughput(first)),
        ratio(&throughput(first)[1..], &throughput(first)),
        format!("{:.1}", median(&cpu(first))),
        format!("{:.1}", median(&cpu(last))),
        ratio(&cpu(last), &cpu(first)),
        latency(first),
        latency(last),
    ]
}

fn collect(rounds: &[Round], value: impl Fn(&Round) -> f64) -> Vec<f64> {
    rounds.iter().map(value).collect()
}

/// The ratio of samples that belong together: the median, and the quartiles.
fn ratio(samples: &[f64], to: &[f64]) -> String {
    let ratios: Vec<f64> = samples.iter().zip(to).map(|(a, b)| a / b).collect();
    let [low, median, high] = [25, 50, 75].map(|percent| quantile(percent, &ratios));
    format!("{median:.3} ({low:.3} to {high:.3})")
}

fn latency(rounds: &[Round]) -> String {
    let all: Vec<f64> = rounds
        .iter()
        .flat_map(|round| &round.latencies)
        .copied()
        .collect();
    format!("{:.0} / {:.0}", quantile(50, &all), quantile(99, &all))
}
