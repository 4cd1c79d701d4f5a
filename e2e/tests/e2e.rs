//! End-to-end tests: manifests through the real kubectl and apiserver, traffic through the real Envoy. They run one
//! after the other in one sandbox; an argument runs those only whose name contains it.
#![expect(clippy::print_stdout, reason = "a test runner")]

use std::{
    panic::AssertUnwindSafe,
    process::ExitCode,
    time::{Duration, Instant},
};

use anyhow::Result;
use futures::{FutureExt as _, future::BoxFuture};
use nuncio_e2e::{
    control_plane::ControlPlane,
    gateway::{Envoy, Replica, xds_address},
    process, sandbox,
    wait::until,
};

#[path = "e2e/answer.rs"]
mod answer;
#[path = "e2e/bad_files.rs"]
mod bad_files;
#[path = "e2e/bad_input.rs"]
mod bad_input;
#[path = "e2e/change.rs"]
mod change;
#[path = "e2e/client_certificate.rs"]
mod client_certificate;
#[path = "e2e/failover.rs"]
mod failover;
#[path = "e2e/failure.rs"]
mod failure;
#[path = "e2e/fixture.rs"]
mod fixture;
#[path = "e2e/fuzz.rs"]
mod fuzz;
#[path = "e2e/http3.rs"]
mod http3;
#[path = "e2e/insecure.rs"]
mod insecure;
#[path = "e2e/listener.rs"]
mod listener;
#[path = "e2e/many_hosts.rs"]
mod many_hosts;
#[path = "e2e/protocol.rs"]
mod protocol;
#[path = "e2e/proxy_protocol.rs"]
mod proxy_protocol;
#[path = "e2e/replicas.rs"]
mod replicas;
#[path = "e2e/rotation.rs"]
mod rotation;
#[path = "e2e/routing.rs"]
mod routing;
#[path = "e2e/serve.rs"]
mod serve;
#[path = "e2e/status.rs"]
mod status;
#[path = "e2e/tls.rs"]
mod tls;

/// Longest time for one test.
const LIMIT: Duration = Duration::from_secs(180);

/// What most tests share: a cluster, a replica of Nuncio, and an Envoy.
pub(crate) struct World {
    /// The cluster.
    pub(crate) plane: ControlPlane,
    /// The first replica.
    pub(crate) replica: Replica,
    /// The first Envoy.
    pub(crate) envoy: Envoy,
}

/// A test that needs nothing.
type Alone = fn() -> BoxFuture<'static, Result<()>>;
/// A test in the world.
type InWorld = for<'a> fn(&'a mut World) -> BoxFuture<'a, Result<()>>;

macro_rules! tests {
    ($($module:ident::$name:ident),* $(,)?) => {
        &[$((concat!(stringify!($module), "::", stringify!($name)), |world| Box::pin($module::$name(world)))),*]
    };
}

macro_rules! alone {
    ($($module:ident::$name:ident),* $(,)?) => {
        &[$((concat!(stringify!($module), "::", stringify!($name)), || Box::pin($module::$name()))),*]
    };
}

const ALONE: &[(&str, Alone)] = alone![
    serve::the_demo_answers_and_stops_cleanly,
    serve::edits_of_files_reach_traffic,
    serve::every_golden_input_is_accepted_by_envoy,
    bad_files::a_bad_file_is_told_and_harms_no_other,
    bad_files::a_file_that_is_served_in_part_says_which,
    serve::rendering_a_wrong_object_fails,
    serve::an_address_beyond_loopback_needs_tls,
    fuzz::whatever_is_written_is_served_or_told,
];

const IN_WORLD: &[(&str, InWorld)] = tests![
    routing::what_is_applied_edited_and_deleted_reaches_traffic,
    routing::endpoints_of_a_service_are_followed,
    routing::tls_is_served_and_certificates_rotate,
    routing::weights_share_requests,
    routing::an_envoy_with_state_of_the_world_serves_the_same,
    change::requests_reach_the_backend_as_asked,
    change::responses_reach_the_client_as_asked,
    change::redirects_send_clients_elsewhere,
    change::requests_are_told_apart,
    change::many_routes_are_chosen_as_few_would_be,
    failure::failures_are_retried_and_slowness_ends,
    failure::a_shadow_sees_copies,
    failure::a_hash_keeps_a_client_with_its_backend,
    failure::a_circuit_breaker_refuses_what_is_too_much,
    failure::unhealthy_endpoints_are_left_out,
    protocol::websockets_are_let_through_where_asked,
    protocol::grpc_and_http2_reach_backends,
    protocol::tls_reaches_backends,
    protocol::tcp_is_passed_on,
    http3::http3_is_served_beside_https,
    tls::the_most_specific_name_shows_its_certificate,
    tls::a_name_without_certificate_is_closed_until_it_has_one,
    tls::protocols_are_agreed_on_as_asked,
    tls::versions_and_ciphers_are_kept_to,
    tls::a_tls_context_is_followed,
    client_certificate::clients_are_let_in_by_their_certificates,
    client_certificate::whom_to_trust_is_followed,
    client_certificate::a_revoked_client_cannot_resume_its_session,
    client_certificate::terms_that_cannot_be_kept_are_not_served,
    insecure::insecure_requests_are_treated_as_asked,
    insecure::the_client_is_the_one_that_trusted_proxies_name,
    proxy_protocol::the_client_is_the_one_that_the_proxy_header_names,
    listener::hosts_are_bound_by_namespace_and_label,
    listener::the_first_by_name_serves_the_port_and_goes_on,
    listener::an_edit_of_a_listener_drops_no_connection,
    rotation::a_certificate_rotates_under_load,
    status::conditions_and_columns_say_what_is_served,
    status::status_is_written_once_per_change,
    status::a_missing_service_and_a_missing_host_are_told,
    bad_input::an_invalid_object_harms_no_other,
    bad_input::an_edit_that_is_wrong_takes_the_object_out_until_it_is_mended,
    bad_input::a_secret_without_key_is_told_on_its_host,
    bad_input::two_listeners_on_one_port_both_say_so,
    bad_input::what_envoy_alone_refuses_is_quarantined,
    failover::a_killed_operator_costs_no_request,
    failover::a_restarted_envoy_gets_everything,
    failover::a_restarted_apiserver_is_picked_up,
    replicas::an_envoy_whose_replica_dies_goes_to_the_other,
    replicas::the_other_replica_takes_over_status,
    many_hosts::hosts_come_and_go_among_a_thousand,
];

fn main() -> ExitCode {
    if let Err(error) = sandbox::enter() {
        println!("the sandbox cannot be made: {error:#}");
        return ExitCode::FAILURE;
    }
    let filter: Option<String> = std::env::args()
        .skip(1)
        .find(|argument| !argument.starts_with('-'));
    let Ok(runtime) = tokio::runtime::Runtime::new() else {
        return ExitCode::FAILURE;
    };
    let failed = runtime.block_on(async {
        tokio::select! {
            failed = run_all(filter.as_deref()) => failed,
            // the first process of a namespace gets no signal that it does not ask for
            _ = tokio::signal::ctrl_c() => {
                println!("\ninterrupted");
                1
            }
        }
    });
    if failed == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

async fn run_all(filter: Option<&str>) -> usize {
    let start = Instant::now();
    let mut results = Results::default();
    let chosen = |name: &str| filter.is_none_or(|filter| name.contains(filter));
    for (name, test) in ALONE.iter().filter(|(name, _)| chosen(name)) {
        results.run(name, test()).await;
    }
    let in_world: Vec<_> = IN_WORLD.iter().filter(|(name, _)| chosen(name)).collect();
    results.left_out = ALONE.len() + IN_WORLD.len()
        - in_world.len()
        - ALONE.iter().filter(|(name, _)| chosen(name)).count();
    if !in_world.is_empty() {
        match World::start().await {
            Ok(mut world) => {
                for (name, test) in in_world {
                    results.run(name, test(&mut world)).await;
                }
            }
            Err(error) => {
                println!("the world cannot be started: {error:#}");
                results.failed += in_world.len();
            }
        }
    }
    let verdict = if results.failed == 0 { "ok" } else { "FAILED" };
    println!(
        "\ntest result: {verdict}. {} passed; {} failed; 0 ignored; 0 measured; {} filtered out; finished in {:.2}s\n",
        results.passed,
        results.failed,
        results.left_out,
        start.elapsed().as_secs_f64()
    );
    results.failed
}

#[derive(Default)]
struct Results {
    passed: usize,
    failed: usize,
    left_out: usize,
}

impl Results {
    async fn run(&mut self, name: &str, test: BoxFuture<'_, Result<()>>) {
        let start = Instant::now();
        // what a failing test leaves behind must not keep the others from running
        let test = tokio::time::timeout(LIMIT, AssertUnwindSafe(test).catch_unwind());
        let failure = match test.await {
            Ok(Ok(Ok(()))) => None,
            Ok(Ok(Err(error))) => Some(format!("{error:#}")),
            Ok(Err(_panic)) => Some("it panicked".to_owned()),
            Err(_elapsed) => Some(format!("it has not ended within {LIMIT:?}")),
        };
        let seconds = start.elapsed().as_secs_f64();
        match failure {
            None => {
                self.passed += 1;
                println!("test {name} ... ok ({seconds:.1} s)");
            }
            Some(reason) => {
                self.failed += 1;
                println!(
                    "test {name} ... FAILED ({seconds:.1} s)\n  {reason}\n{}",
                    process::tails()
                );
            }
        }
    }
}

impl World {
    async fn start() -> Result<Self> {
        let plane = ControlPlane::start().await?;
        plane.apply(fixture::LISTENERS)?;
        let replica = Replica::start(&plane, 0).await?;
        let envoy = Envoy::start("envoy-a", &xds_address(0), 8001, "delta")?;
        envoy.ready().await?;
        until("the Lease", || async {
            let leads = replica.metric("nuncio_leader").await?;
            anyhow::ensure!((leads - 1.0).abs() < 0.1, "nobody leads");
            Ok(())
        })
        .await?;
        Ok(Self {
            plane,
            replica,
            envoy,
        })
    }
}
