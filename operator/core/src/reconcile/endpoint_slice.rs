//! An EndpointSlice: addresses of some pods of a Service.

use std::{collections::BTreeMap, net::IpAddr, sync::Arc};

use k8s_openapi::api::discovery::v1::{Endpoint, EndpointSlice as Object};
use serde_json::Value;

use super::{EndpointSlice, Found, Fragment, Name, parse};
use crate::{object::ObjectRef, selector::Labels};

const SERVICE_NAME: &str = "kubernetes.io/service-name";

pub(super) fn reconcile(value: Value, object: &ObjectRef, labels: &Labels) -> Found {
    let Some(service) = labels.get(SERVICE_NAME) else {
        return (None, Vec::new()); // belongs to no Service
    };
    let slice: Object = match parse::object(value, object.kind, "") {
        Ok((slice, _unknown)) => slice,
        Err(problem) => return (None, vec![problem]),
    };
    let ports = slice
        .ports
        .unwrap_or_default()
        .into_iter()
        .filter(|port| port.protocol.as_deref().unwrap_or("TCP") == "TCP")
        .filter_map(|port| {
            Some((
                port.name.unwrap_or_default(),
                u16::try_from(port.port?).ok()?,
            ))
        })
        .collect();
    let (mut ready, mut terminating): (Vec<IpAddr>, Vec<IpAddr>) = (Vec::new(), Vec::new());
    let mut zones = BTreeMap::new();
    for endpoint in slice.endpoints.unwrap_or_default() {
        let zone = zone(&endpoint);
        let conditions = endpoint.conditions.unwrap_or_default();
        // in the API, a condition that is not set counts as true
        let is_ready = conditions.ready.unwrap_or(true);
        let serves =
            conditions.serving.unwrap_or(is_ready) && conditions.terminating.unwrap_or(false);
        let list = match (is_ready, serves) {
            (true, _) => &mut ready,
            (false, true) => &mut terminating,
            (false, false) => continue,
        };
        // addresses of type FQDN are deprecated and not supported
        let addresses = endpoint.addresses.iter();
        let addresses = addresses.filter_map(|address| address.parse::<IpAddr>().ok());
        for address in addresses {
            list.push(address);
            if let Some(zone) = zone.as_ref().filter(|_| is_ready) {
                zones.insert(address, zone.clone());
            }
        }
    }
    let slice = EndpointSlice {
        service: Name {
            namespace: object.namespace.clone(),
            name: service.as_str().into(),
        },
        ports,
        ready,
        terminating,
        zones,
    };
    (Some(Fragment::EndpointSlice(slice.into())), Vec::new())
}

/// The zone that an endpoint is meant for: of several its own, because an endpoint of Envoy is in one.
fn zone(endpoint: &Endpoint) -> Option<Arc<str>> {
    let zones = endpoint.hints.as_ref()?.for_zones.as_ref()?;
    let own = endpoint.zone.as_deref();
    let own = zones.iter().find(|zone| Some(zone.name.as_str()) == own);
    let zone = own.or_else(|| zones.first())?;
    (!zone.name.is_empty()).then(|| zone.name.as_str().into())
}
