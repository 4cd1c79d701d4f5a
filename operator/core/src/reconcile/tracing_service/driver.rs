//! The driver of a TracingService, with its settings. A setting of another driver has no effect, and says so.

use nuncio_crds::v3alpha1::{
    CollectorVersion, TraceConfig, TracingDriver as Driver, TracingServiceSpec,
};
use nuncio_ir::TracingDriver;

use crate::{
    object::Kind,
    reconcile::{not_served, replaced, without_effect},
    report::Problem,
};

/// Path of Zipkin's API.
const ENDPOINT: &str = "/api/v2/spans";
/// Name of the gateway in traces, as in Emissary.
const SERVICE_NAME: &str = "ambassador";
/// The mode of W3C Trace Context.
const TRACE_CONTEXT: &str = "TRACE_CONTEXT";

/// The driver.
///
/// # Errors
/// It is not supported.
pub(super) fn driver(
    spec: &TracingServiceSpec,
    problems: &mut Vec<Problem>,
) -> Result<TracingDriver, Problem> {
    let default = TraceConfig::default();
    let config = spec.config.as_ref().unwrap_or(&default);
    let driver = match spec.driver {
        Driver::Lightstep => {
            let fact = "Envoy no longer has the driver lightstep; use opentelemetry with the address of an OpenTelemetry collector";
            return Err(not_served(Kind::TracingService, "spec.driver", fact));
        }
        Driver::Zipkin => TracingDriver::Zipkin {
            endpoint: endpoint(config, problems),
            protobuf: protobuf(config.collector_endpoint_version)?,
            hostname: hostname(config, problems),
            shared_span_context: config.shared_span_context,
            long_ids: config.trace_id_128bit.unwrap_or(true),
            w3c: config
                .propagation_modes
                .iter()
                .any(|mode| mode == TRACE_CONTEXT),
        },
        Driver::Datadog => TracingDriver::Datadog {
            service: service_name(config),
            hostname: hostname(config, problems),
        },
        Driver::Opentelemetry => TracingDriver::OpenTelemetry {
            service: service_name(config),
        },
    };
    problems.extend(without_effect_on(spec.driver, config));
    Ok(driver)
}

fn endpoint(config: &TraceConfig, problems: &mut Vec<Problem>) -> String {
    let Some(path) = config.collector_endpoint.as_deref() else {
        return ENDPOINT.to_owned();
    };
    if path.starts_with('/') && is_plain(path) {
        return path.to_owned();
    }
    problems.push(replaced(
        "spec.config.collector_endpoint",
        "must be a path that starts with a slash",
        format!("the default of {ENDPOINT}"),
    ));
    ENDPOINT.to_owned()
}

/// # Errors
/// Envoy does not have the format.
fn protobuf(version: Option<CollectorVersion>) -> Result<bool, Problem> {
    match version {
        Some(CollectorVersion::JsonV1) => Err(not_served(
            Kind::TracingService,
            "spec.config.collector_endpoint_version",
            "Envoy no longer has HTTP_JSON_V1; use HTTP_JSON or HTTP_PROTO",
        )),
        Some(CollectorVersion::Proto) => Ok(true),
        Some(CollectorVersion::Json) | None => Ok(false),
    }
}

fn hostname(config: &TraceConfig, problems: &mut Vec<Problem>) -> Option<String> {
    let name = config.collector_hostname.clone()?;
    if name.is_empty() {
        return None;
    }
    if !is_plain(&name) {
        problems.push(replaced(
            "spec.config.collector_hostname",
            "must be a host name",
            "host and port of service",
        ));
        return None;
    }
    Some(name)
}

/// Whether a text can stand in the head of a request.
fn is_plain(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_graphic())
}

fn service_name(config: &TraceConfig) -> String {
    let name = config.service_name.clone().filter(|name| !name.is_empty());
    name.unwrap_or_else(|| SERVICE_NAME.to_owned())
}

/// A notice for each setting that the driver does not have.
fn without_effect_on(driver: Driver, config: &TraceConfig) -> Vec<Problem> {
    let (zipkin, datadog) = (driver == Driver::Zipkin, driver == Driver::Datadog);
    let only_zipkin = (zipkin, "only driver zipkin uses it");
    let not_any_more = (false, "it was for Lightstep");
    let settings = [
        (
            "access_token_file",
            config.access_token_file.is_some(),
            not_any_more,
        ),
        (
            "collector_cluster",
            config.collector_cluster.is_some(),
            (false, "the cluster is that of service"),
        ),
        (
            "collector_endpoint",
            config.collector_endpoint.is_some(),
            only_zipkin,
        ),
        (
            "collector_endpoint_version",
            config.collector_endpoint_version.is_some(),
            only_zipkin,
        ),
        (
            "collector_hostname",
            config.collector_hostname.is_some(),
            (zipkin || datadog, "only drivers zipkin and datadog use it"),
        ),
        (
            "service_name",
            config.service_name.is_some(),
            (!zipkin, "only drivers datadog and opentelemetry use it"),
        ),
        (
            "shared_span_context",
            config.shared_span_context.is_some(),
            only_zipkin,
        ),
        (
            "trace_id_128bit",
            config.trace_id_128bit.is_some(),
            only_zipkin,
        ),
    ];
    let unused = settings
        .into_iter()
        .filter(|(_, is_set, (is_used, _))| *is_set && !is_used)
        .map(|(field, _, (_, why))| {
            let message = format!("no effect: {why}");
            without_effect(format!("spec.config.{field}"), message)
        });
    unused.chain(propagation_modes(driver, config)).collect()
}

/// A notice for each mode that the driver does not have, whose headers are those of its protocol.
fn propagation_modes(driver: Driver, config: &TraceConfig) -> Vec<Problem> {
    let (known, headers): (&[&str], _) = match driver {
        Driver::Zipkin => (
            &["B3", TRACE_CONTEXT],
            "B3, and W3C Trace Context with TRACE_CONTEXT",
        ),
        Driver::Opentelemetry => (&[TRACE_CONTEXT], "W3C Trace Context"),
        Driver::Datadog | Driver::Lightstep => (&[], "those of Datadog"),
    };
    let modes = config.propagation_modes.iter().enumerate();
    let unknown = modes.filter(|(_, mode)| !known.contains(&mode.as_str()));
    unknown
        .map(|(index, mode)| {
            let path = format!("spec.config.propagation_modes[{index}]");
            let message = format!(
                "no effect: {mode:?} is not a mode of this driver, whose headers are {headers}"
            );
            without_effect(path, message)
        })
        .collect()
}
