//! `envoy.config.core.v3.HeaderValueOption`

use std::collections::BTreeMap;

use crate::{
    ir::AddedHeader,
    pb::envoy::config::core::v3::{
        HeaderValue, HeaderValueOption, header_value_option::HeaderAppendAction,
    },
};

/// Headers to add, sorted by name.
pub(super) fn added(headers: &BTreeMap<String, AddedHeader>) -> Vec<HeaderValueOption> {
    headers
        .iter()
        .map(|(name, header)| {
            let action = if header.append {
                HeaderAppendAction::AppendIfExistsOrAdd
            } else {
                HeaderAppendAction::OverwriteIfExistsOrAdd
            };
            HeaderValueOption {
                header: Some(HeaderValue {
                    key: name.clone(),
                    value: header.value.clone(),
                    ..HeaderValue::default()
                }),
                append_action: action.into(),
                keep_empty_value: header.value.is_empty(),
                ..HeaderValueOption::default()
            }
        })
        .collect()
}
