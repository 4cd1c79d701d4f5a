//! Outlier detection. The schema has a text, of which Emissary's documentation says nothing and its code less; here it is
//! the YAML or JSON of Envoy's message of that name, as far as that is about failures in a row.

use std::time::Duration;

use nuncio_ir::OutlierDetection;
use serde::Deserialize;

use super::asked::left_out;
use crate::{reconcile::duration, report::Problem};

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

/// What the text says.
pub(super) fn detection(text: &str, problems: &mut Vec<Problem>) -> Option<OutlierDetection> {
    let fields: Fields = match serde_saphyr::from_str(text) {
        Ok(fields) => fields,
        Err(_) => {
            problems.push(left_out(PATH, "it is no YAML map of consecutive_5xx, consecutive_gateway_failure, interval, base_ejection_time and max_ejection_percent"));
            return None;
        }
    };
    let mut time = |field: &str, text: Option<String>| -> Option<Duration> {
        let text = text?;
        match duration::parse(&text) {
            Ok(time) if time >= Duration::from_millis(1) => Some(time),
            result => {
                let flaw = result
                    .err()
                    .unwrap_or_else(|| "is no time above zero".to_owned());
                let flaw = format!("{text:?} {flaw}");
                problems.push(left_out(&format!("{PATH}.{field}"), &flaw));
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
        // Envoy wants no less than the longest time, which is 300 s unless the base is more
        base_ejection_time,
        max_ejection_percent,
    })
}
