//! Keys `ip_allow` and `ip_deny`. A mistake never opens anything: an allow list without a valid item allows nothing.

use std::net::IpAddr;

use nuncio_ir::{AddressRange, Addresses, FilterSettings};
use serde_json::Value;

use super::config::Config;
use crate::report::{Problem, Reason};

/// The list; `None`: all addresses may send requests.
pub(super) fn addresses(config: &mut Config<'_>) -> Option<FilterSettings> {
    let allowed = ranges(config, "ip_allow");
    let denied = ranges(config, "ip_deny");
    if let Some(ranges) = allowed {
        if denied.is_some() {
            let message = "ip_deny is ignored because ip_allow is set";
            let problem = Problem::ignored(Reason::CONFLICT, config.path("ip_deny"), message);
            config.report(problem);
        }
        if ranges.is_empty() {
            let message = "no valid item; all requests are denied";
            let path = config.path("ip_allow");
            let problem = Problem::ignored(Reason::PARTIALLY_INVALID, path, message);
            config.report(problem);
        }
        let allow = true;
        return Some(FilterSettings::Addresses(Addresses { allow, ranges }));
    }
    let ranges = denied.filter(|ranges| !ranges.is_empty())?;
    let allow = false;
    Some(FilterSettings::Addresses(Addresses { allow, ranges }))
}

/// The valid items of a list, if it is there.
fn ranges(config: &mut Config<'_>, key: &'static str) -> Option<Vec<AddressRange>> {
    let value = config.value(key)?;
    let Some(items) = value.as_array() else {
        config.ignore(key, "must be a list of peer or remote addresses");
        return Some(Vec::new());
    };
    let mut ranges = Vec::new();
    for (index, item) in items.iter().enumerate() {
        match range(item) {
            Ok(range) => ranges.push(range),
            Err(fact) => config.ignore(&format!("{key}[{index}]"), fact),
        }
    }
    Some(ranges)
}

fn range(item: &Value) -> Result<AddressRange, String> {
    const FORM: &str = "must have exactly one of peer and remote";
    let fields = item.as_object().ok_or(FORM)?;
    let mut fields = fields.iter();
    let (Some((kind, value)), None) = (fields.next(), fields.next()) else {
        return Err(FORM.to_owned());
    };
    let peer = match kind.as_str() {
        "peer" => true,
        "remote" => false,
        _ => return Err(FORM.to_owned()),
    };
    let text = value.as_str().ok_or("must be an address")?.trim();
    let (address, prefix) = match text.split_once('/') {
        Some((address, prefix)) => (address, Some(prefix)),
        None => (text, None),
    };
    let invalid = || format!("invalid address {text:?}: use 10.0.0.0/8 or 2001:db8::/32");
    let address: IpAddr = address.parse().map_err(|_source| invalid())?;
    let most = if address.is_ipv4() { 32 } else { 128 };
    let is_digits = |text: &&str| text.bytes().all(|byte| byte.is_ascii_digit());
    let prefix = match prefix {
        None => Some(most),
        Some(text) => Some(text).filter(is_digits).and_then(|t| t.parse().ok()),
    };
    let prefix = prefix.filter(|prefix| *prefix <= most);
    Ok(AddressRange {
        peer,
        address,
        prefix: prefix.ok_or_else(invalid)?,
    })
}
