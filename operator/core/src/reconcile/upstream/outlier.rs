//! Outlier detection. The schema has a text that Emissary neither documents nor uses; here it is Envoy's message of that
//! name in YAML or JSON, with the fields for consecutive failures.

use std::time::Duration;

use nuncio_ir::OutlierDetection;
use serde::Deserialize;

use crate::{
    reconcile::{duration, ignored},
    report::Problem,
};

const PATH: &str = "spec.outlier_detection";

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Fields {
    consecutive_5xx: Option<u32>,
    consecutive_gateway_failure: Option<u32>,
    interval: Option<String>,
    base_ejection_time: Option<String>,
    max_ejection_percent: Option<u32>,
}

/// The parsed text.
pub(super) fn detection(text: &str, problems: &mut Vec<Problem>) -> Option<OutlierDetection> {
    let fields: Fields = match serde_saphyr::from_str(text) {
        Ok(fields) => fields,
        Err(_) => {
            problems.push(ignored(
                PATH,
                "must be a YAML map of consecutive_5xx, consecutive_gateway_failure, interval, base_ejection_time and max_ejection_percent",
            ));
            return None;
        }
    };
    let mut time = |field: &str, text: Option<String>| -> Option<Duration> {
        let text = text?;
        match duration::parse_positive(&text) {
            Ok(time) => Some(time),
            Err(fact) => {
                problems.push(ignored(format!("{PATH}.{field}"), fact));
                None
            }
        }
    };
    let interval = time("interval", fields.interval);
    let base_ejection_time = time("base_ejection_time", fields.base_ejection_time);
    let max_ejection_percent = fields.max_ejection_percent.map(|percent| percent.min(100));
    Some(OutlierDetection {
        consecutive_5xx: fields.consecutive_5xx,
        consecutive_gateway_failure: fields.consecutive_gateway_failure,
        interval,
        base_ejection_time,
        max_ejection_percent,
    })
}
