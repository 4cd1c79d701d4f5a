//! An EndpointSlice: addresses of some pods of a Service.

use std::net::IpAddr;

use k8s_openapi::api::discovery::v1::EndpointSlice as Object;
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
    for endpoint in slice.endpoints.unwrap_or_default() {
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
        list.extend(
            endpoint
                .addresses
                .iter()
                .filter_map(|address| address.parse::<IpAddr>().ok()),
        );
    }
    let slice = EndpointSlice {
        service: Name {
            namespace: object.namespace.clone(),
            name: service.as_str().into(),
        },
        ports,
        ready,
        terminating,
    };
    (Some(Fragment::EndpointSlice(slice.into())), Vec::new())
}
