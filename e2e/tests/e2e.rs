//! End-to-end tests: manifests through the real kubectl and apiserver, traffic through the real Envoy.
//!
//! Each test has a namespace and hostnames of its own, so that tests run in any order and beside each other. Most share one
//! cluster and one gateway in it; the tables below say which tests have more to themselves, and so why they may kill it,
//! count what it does, or take every hostname.

use std::process::ExitCode;

use anyhow::{Context as _, Result};
use libtest_mimic::Arguments;
use nuncio_e2e::sandbox;

#[path = "e2e/annotation.rs"]
mod annotation;
#[path = "e2e/answer.rs"]
mod answer;
#[path = "e2e/apiext.rs"]
mod apiext;
#[path = "e2e/apiserver.rs"]
mod apiserver;
#[path = "e2e/auth_service.rs"]
mod auth_service;
#[path = "e2e/bad_files.rs"]
mod bad_files;
#[path = "e2e/bad_input.rs"]
mod bad_input;
#[path = "e2e/change.rs"]
mod change;
#[path = "e2e/client_certificate.rs"]
mod client_certificate;
#[path = "e2e/consul.rs"]
mod consul;
#[path = "e2e/directories.rs"]
mod directories;
#[path = "e2e/drain.rs"]
mod drain;
#[path = "e2e/envoy_pod.rs"]
mod envoy_pod;
#[path = "e2e/failover.rs"]
mod failover;
#[path = "e2e/failure.rs"]
mod failure;
#[path = "e2e/faults.rs"]
mod faults;
#[path = "e2e/fixture.rs"]
mod fixture;
#[path = "e2e/fleets.rs"]
mod fleets;
#[path = "e2e/fuzz.rs"]
mod fuzz;
#[path = "e2e/hitless.rs"]
mod hitless;
#[path = "e2e/http3.rs"]
mod http3;
#[path = "e2e/identity.rs"]
mod identity;
#[path = "e2e/idle_clients.rs"]
mod idle_clients;
#[path = "e2e/image.rs"]
mod image;
#[path = "e2e/ingress.rs"]
mod ingress;
#[path = "e2e/insecure.rs"]
mod insecure;
#[path = "e2e/install.rs"]
mod install;
#[path = "e2e/installation.rs"]
mod installation;
#[path = "e2e/installations.rs"]
mod installations;
#[path = "e2e/journal.rs"]
mod journal;
#[path = "e2e/knative.rs"]
mod knative;
#[path = "e2e/listener.rs"]
mod listener;
#[path = "e2e/log_service.rs"]
mod log_service;
#[path = "e2e/lua.rs"]
mod lua;
#[path = "e2e/many_hosts.rs"]
mod many_hosts;
#[path = "e2e/module.rs"]
mod module;
#[path = "e2e/name_server.rs"]
mod name_server;
#[path = "e2e/names.rs"]
mod names;
#[path = "e2e/node.rs"]
mod node;
#[path = "e2e/own_endpoints.rs"]
mod own_endpoints;
#[path = "e2e/protocol.rs"]
mod protocol;
#[path = "e2e/proxy_protocol.rs"]
mod proxy_protocol;
#[path = "e2e/quarantine.rs"]
mod quarantine;
#[path = "e2e/rate_limit_service.rs"]
mod rate_limit_service;
#[path = "e2e/replicas.rs"]
mod replicas;
#[path = "e2e/rotation.rs"]
mod rotation;
#[path = "e2e/routing.rs"]
mod routing;
#[path = "e2e/runner.rs"]
mod runner;
#[path = "e2e/serve.rs"]
mod serve;
#[path = "e2e/shared_chains.rs"]
mod shared_chains;
#[path = "e2e/shutdown.rs"]
mod shutdown;
#[path = "e2e/space.rs"]
mod space;
#[path = "e2e/status.rs"]
mod status;
#[path = "e2e/status_writes.rs"]
mod status_writes;
#[path = "e2e/tables_by_host.rs"]
mod tables_by_host;
#[path = "e2e/tls.rs"]
mod tls;
#[path = "e2e/tracing_service.rs"]
mod tracing_service;
#[path = "e2e/zone.rs"]
mod zone;

use runner::{Run, Test};
use space::Space;

macro_rules! tests {
    (WithoutCluster: $($module:ident::$name:ident),* $(,)?) => {
        &[$(Test {
            module: stringify!($module),
            name: stringify!($name),
            run: Run::WithoutCluster(|| Box::pin($module::$name())),
        }),*]
    };
    ($run:ident: $($module:ident::$name:ident),* $(,)?) => {
        &[$(Test {
            module: stringify!($module),
            name: stringify!($name),
            run: Run::$run(|space| Box::pin($module::$name(space))),
        }),*]
    };
}

/// In a sandbox of its own, without a cluster: `nuncio` itself has fixed ports there.
const WITHOUT_CLUSTER: &[Test] = tests![WithoutCluster:
    serve::the_demo_answers_and_stops_cleanly,
    serve::edits_of_files_reach_traffic,
    serve::every_golden_input_is_accepted_by_envoy,
    serve::rendering_an_invalid_object_fails,
    serve::an_address_other_than_loopback_needs_tls,
    module::clients_see_what_keys_change,
    module::requests_are_logged_as_asked,
    module::a_script_with_a_syntax_error_changes_nothing,
    module::a_script_that_fails_at_its_top_level_leaves_the_one_before,
    lua::scripts_are_checked_as_in_envoy,
    module::adding_changing_and_removing_keys_loses_no_request,
    own_endpoints::no_service_reaches_the_control_plane_or_the_admin_interface,
    shutdown::open_requests_end_before_serve_does,
    name_server::a_name_without_an_answer_holds_up_nothing,
    idle_clients::they_do_not_keep_a_configuration_from_envoys,
    envoy_pod::certificates_rotate_without_closing_the_stream,
    envoy_pod::sigterm_at_odd_moments_is_obeyed,
    envoy_pod::an_envoy_that_hangs_or_crashes_is_noticed,
    drain::a_pod_that_stops_loses_no_request,
    image::the_images_serve_without_privileges_and_without_a_shell,
    consul::services_of_an_agent_are_followed,
    consul::tls_and_tokens_are_used,
    consul::the_last_endpoints_stay_while_the_agent_is_away,
    consul::a_hung_agent_holds_up_nothing_else,
    consul::churn_of_endpoints_loses_no_request,
    zone::requests_stay_in_the_zone_of_the_envoy,
    bad_files::a_bad_file_is_reported_and_affects_no_other,
    bad_files::a_file_served_in_part_is_reported,
    fuzz::every_object_is_served_or_reported,
    // starts an empty cluster
    install::overlays_and_components_are_valid,
    // start a cluster with old API versions
    apiext::what_is_written_in_v2_is_read_in_v3alpha1_and_back,
    apiext::the_authority_rotates_without_a_failed_call,
    apiext::an_authority_of_another_program_is_used_and_never_written,
    apiext::only_conversion_is_patched_and_what_others_change_is_undone,
    apiext::without_crd_management_another_program_sets_the_bundle,
    apiext::the_webhook_goes_and_comes_back,
    apiext::replicas_are_replaced_without_a_failed_call,
    apiext::ten_thousand_old_objects_are_listed,
    apiext::hostile_clients_do_not_keep_the_apiserver_from_converting,
    apiext::a_cluster_with_v2_alone_is_served,
    apiext::stored_objects_are_served_while_the_webhook_is_away,
    apiext::objects_of_the_read_version_need_no_webhook,
    apiext::objects_are_stored_again_and_old_versions_removed,
    apiext::a_migration_goes_on_where_it_was_interrupted,
    apiext::an_object_that_cannot_be_stored_is_named,
    apiext::without_permission_or_conversion_nothing_is_stored,
    // start a cluster with ways to disturb it
    faults::killed_stopped_and_partitioned_parts_cost_no_request,
    faults::wrong_answers_while_running_cost_no_request,
    faults::wrong_answers_at_start_cost_no_request,
    faults::leaders_and_deletions_do_what_they_must_and_no_more,
];

/// In a sandbox of its own, with an empty cluster whose Pods run.
const WITH_NODE: &[Test] = tests![WithoutCluster:
    node::deployments_scale_and_roll_without_losing_requests,
    node::containers_get_what_their_pod_asks_for,
    node::probes_and_grace_are_honoured,
    install::two_commands_serve_traffic_and_two_remove_everything,
    install::the_minimal_overlay_serves_traffic,
    install::the_production_overlay_serves_traffic,
    install::envoys_in_the_network_of_their_node_serve_traffic,
    install::a_gateway_for_one_namespace_serves_no_other,
    apiext::an_installation_converts_and_rolls_without_a_failed_call,
    hitless::edits_and_failures_lose_nothing,
    hitless::scaling_and_rollouts_lose_nothing,
    hitless::rotations_and_clocks_lose_nothing,
];

/// In a namespace of the shared cluster, served by the shared gateway.
const SHARED: &[Test] = tests![Shared:
    routing::what_is_applied_edited_and_deleted_reaches_traffic,
    routing::weights_share_requests,
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
    tls::a_name_without_certificate_is_closed_until_it_has_one,
    tls::protocols_are_agreed_on_as_asked,
    tls::versions_and_ciphers_are_kept_to,
    tls::a_tls_context_is_followed,
    client_certificate::clients_are_let_in_by_their_certificates,
    client_certificate::whom_to_trust_is_followed,
    client_certificate::a_revoked_client_cannot_resume_its_session,
    client_certificate::terms_that_cannot_be_kept_are_not_served,
    names::backends_get_the_host_as_it_was_sent,
    insecure::insecure_requests_are_treated_as_asked,
    insecure::the_client_is_the_one_that_trusted_proxies_name,
    proxy_protocol::the_client_is_the_one_that_the_proxy_header_names,
    listener::hosts_are_bound_by_namespace_and_label,
    listener::the_first_by_name_serves_the_port_and_goes_on,
    status::a_missing_service_and_a_missing_host_are_told,
    status::objects_without_effect_say_so,
    bad_input::an_invalid_object_affects_no_other,
    bad_input::an_invalid_edit_removes_the_object_until_it_is_fixed,
    bad_input::a_secret_without_key_is_told_on_its_host,
    bad_input::two_listeners_on_one_port_both_say_so,
    // start instances of their own once their Hosts exist
    many_hosts::hosts_come_and_go_among_a_thousand,
    fleets::two_fleets_of_one_control_plane_share_nothing,
];

/// In a namespace of the shared cluster, served by an instance of Nuncio and an Envoy of its own.
const OWN_GATEWAY: &[Test] = tests![OwnGateway:
    auth_service::an_http_service_decides,
    auth_service::a_grpc_service_decides,
    auth_service::failures_of_the_service_are_handled_as_set,
    auth_service::changes_under_load_lose_and_open_nothing,
    auth_service::mappings_name_their_service,
    auth_service::a_service_that_appears_later_is_called,
    shared_chains::names_with_one_certificate_share_a_chain,
    shared_chains::names_come_and_go_on_a_shared_chain_without_a_lost_request,
    shared_chains::connections_of_a_name_that_leaves_are_misdirected,
    tables_by_host::every_spelling_of_a_name_is_served_by_its_host,
    tables_by_host::backends_do_not_see_which_table_was_selected,
    tables_by_host::hosts_come_and_go_without_a_lost_request,
    tables_by_host::an_auth_service_comes_and_goes_without_a_lost_request,
    annotation::objects_in_annotations_come_and_go_under_load,
    annotation::an_ingress_is_served_beside_mappings_of_its_host,
    annotation::what_envoy_rejects_is_shown_on_the_owner,
    ingress::requests_of_an_ingress_are_served,
    ingress::ingresses_come_and_go_with_their_class,
    ingress::the_status_of_an_ingress_has_the_addresses_of_the_gateway,
    knative::knative_ingresses_are_served_as_their_status_says,
    routing::endpoints_of_a_service_are_followed,
    routing::tls_is_served_and_certificates_rotate,
    routing::an_envoy_with_state_of_the_world_serves_the_same,
    http3::http3_is_served_beside_https,
    tls::the_most_specific_name_shows_its_certificate,
    names::no_spelling_of_a_name_reaches_another_host,
    names::a_connection_serves_the_names_that_its_chain_covers,
    listener::an_edit_of_a_listener_drops_no_connection,
    rotation::a_certificate_rotates_under_load,
    rotation::a_broken_rotation_loses_no_request,
    consul::a_resolver_reports_what_its_agent_lacks,
    rate_limit_service::requests_are_limited_by_their_labels,
    rate_limit_service::the_failure_mode_decides_when_the_service_fails,
    rate_limit_service::limited_grpc_requests_get_the_status_as_configured,
    rate_limit_service::changes_of_a_rate_limit_service_lose_no_request,
    log_service::requests_and_connections_are_logged,
    log_service::changes_of_a_log_service_lose_no_request,
    tracing_service::spans_of_a_request_are_joined,
    tracing_service::zipkin_gets_spans_in_both_formats,
    tracing_service::changes_of_a_tracing_service_lose_no_request,
    status::conditions_and_columns_say_what_is_served,
    status::status_is_written_once_per_change,
    journal::edits_are_timed_until_envoy_has_them,
    status_writes::a_status_takes_one_short_request,
    status_writes::what_the_apiserver_asks_for_is_waited_for_and_all_else_goes_on,
    bad_input::what_only_envoy_rejects_is_quarantined,
    quarantine::what_an_older_envoy_of_another_replica_lacks_is_left_out,
    directories::files_are_served_until_and_before_the_cluster,
    failover::a_killed_operator_costs_no_request,
    failover::a_restarted_envoy_gets_everything,
    replicas::an_envoy_whose_replica_dies_goes_to_the_other,
    replicas::a_replica_that_stops_hands_its_stream_over,
    replicas::the_other_replica_takes_over_status,
    installations::the_one_that_sorts_first_writes_status,
    replicas::envoys_spread_over_replicas_that_are_added,
];

/// In a sandbox of its own, with a cluster of its own.
const OWN_CLUSTER: &[Test] = tests![OwnCluster:
    failover::a_restarted_apiserver_is_picked_up,
    apiserver::half_open_connections_delay_a_change_by_less_than_half_a_minute,
    apiserver::a_missing_permission_is_named,
    apiserver::a_kind_that_is_installed_later_is_served,
    apiserver::a_kind_that_is_not_supported_is_reported,
    identity::only_pods_of_envoys_get_a_certificate_and_a_stream,
    identity::a_new_authority_drops_no_stream_and_holds_for_all_replicas,
    identity::clients_in_the_way_delay_no_change,
    // has the only Module of its cluster
    quarantine::a_rejected_script_leaves_the_one_before_for_every_envoy,
    quarantine::an_envoy_of_another_replica_rejects_for_all,
];

fn main() -> Result<ExitCode> {
    let arguments = Arguments::from_args();
    let tests = [WITHOUT_CLUSTER, WITH_NODE, OWN_CLUSTER, OWN_GATEWAY, SHARED].concat();
    if !arguments.list {
        sandbox::enter().context("cannot make the sandbox")?;
    }
    match sandbox::test() {
        Some(name) => runner::run_one(&tests, &name),
        None => runner::run_all(&arguments, &tests),
    }
}
