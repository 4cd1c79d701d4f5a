//! Keys for HTTP filters.

use std::collections::BTreeMap;

use nuncio_ir::{FilterSettings, GrpcMethods, GrpcStats, HttpFilter};
use serde_json::{Map, Value};

use super::{address, compression, config::Config};
use crate::{
    reconcile::{Part, lua},
    report::{Problem, Reason},
};

/// The filters that are used, with their settings if they have any; without that of the script.
pub(super) fn filters(config: &mut Config<'_>) -> BTreeMap<HttpFilter, Option<FilterSettings>> {
    let mut filters = BTreeMap::new();
    // with a value of false they are off, as documented, although Emissary adds them
    if config.boolean("enable_grpc_http11_bridge", false) {
        filters.insert(HttpFilter::GrpcHttp1Bridge, None);
    }
    if config.boolean("enable_grpc_web", false) {
        filters.insert(HttpFilter::GrpcWeb, None);
    }
    let found = [
        (HttpFilter::GrpcStats, grpc_stats(config)),
        (HttpFilter::Compression, compression::compression(config)),
        (HttpFilter::Buffer, buffer(config)),
        (HttpFilter::Addresses, address::addresses(config)),
    ];
    let found = found.into_iter().filter(|(_, found)| found.is_some());
    filters.extend(found);
    filters
}

fn grpc_stats(config: &mut Config<'_>) -> Option<FilterSettings> {
    let stats = config.section("grpc_stats", |stats| {
        let all = stats.value("all_methods").is_some();
        let all_methods = stats.boolean("all_methods", false);
        let methods = match listed_methods(stats) {
            Some(listed) => {
                if all {
                    stats.ignore("all_methods", "services is set");
                }
                GrpcMethods::Listed(listed)
            }
            None => GrpcMethods::All(all_methods),
        };
        GrpcStats {
            upstream: stats.boolean("upstream_stats", false),
            methods,
        }
    })?;
    Some(FilterSettings::GrpcStats(stats))
}

/// Services with their methods, as Envoy accepts them.
fn listed_methods(stats: &mut Config<'_>) -> Option<Vec<(String, Vec<String>)>> {
    let value = stats.value("services")?;
    let Some(items) = value.as_array() else {
        stats.ignore("services", "must be a list");
        return None;
    };
    let mut services = Vec::new();
    for (index, item) in items.iter().enumerate() {
        let at = format!("services[{index}]");
        match service(item.as_object()) {
            Some(service) => services.push(service),
            None => stats.ignore(&at, "must have a name and method_names"),
        }
    }
    Some(services)
}

fn service(fields: Option<&Map<String, Value>>) -> Option<(String, Vec<String>)> {
    let fields = fields?;
    let is_text = |text: &&str| !text.is_empty();
    let name = fields.get("name")?.as_str().filter(is_text)?;
    let methods = fields.get("method_names")?.as_array()?.iter();
    let methods: Option<Vec<String>> = methods
        .map(|method| Some(method.as_str().filter(is_text)?.to_owned()))
        .collect();
    let methods = methods.filter(|methods| !methods.is_empty())?;
    Some((name.to_owned(), methods))
}

/// A script that Envoy can load, if there is one, or the reason why it cannot.
pub(super) fn script(config: &mut Config<'_>) -> Part<Option<String>> {
    match config.value("lua_scripts") {
        None => Ok(None),
        Some(Value::String(script)) if script.is_empty() => Ok(None),
        Some(Value::String(script)) => {
            lua::check(script)?;
            Ok(Some(script.clone()))
        }
        Some(_) => Err("must be a text".to_owned().into()),
    }
}

fn buffer(config: &mut Config<'_>) -> Option<FilterSettings> {
    const SIZE: &str = "max_request_bytes";
    let bytes = config.section("buffer", |buffer| {
        buffer.without_effect("max_request_time", "Envoy has no such limit");
        if buffer.value(SIZE).is_none() {
            let reason = Reason::PARTIALLY_INVALID;
            let message = format!("{SIZE} is missing; buffer is ignored");
            let problem = Problem::ignored(reason, buffer.path(SIZE), message);
            buffer.report(problem);
        }
        buffer.number(SIZE, 1..=u32::MAX)
    })?;
    bytes.map(FilterSettings::Buffer)
}
