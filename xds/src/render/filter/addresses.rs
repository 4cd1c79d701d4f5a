//! `envoy.extensions.filters.http.rbac.v3.RBAC`: addresses that may, or may not, send requests.

use std::collections::HashMap;

use crate::{
    ir::{AddressRange, Addresses},
    pb::{
        envoy::{
            config::{
                core::v3::CidrRange,
                rbac::v3::{
                    Permission, Policy, Principal, Rbac as Rules, permission,
                    principal::Identifier, rbac::Action,
                },
            },
            extensions::filters::http::rbac::v3::Rbac,
        },
        google::protobuf::Any,
    },
    render::{any, uint32},
};

/// The filter with these addresses. Without any, an allow list denies everything: it has no policy that a request can
/// match.
pub(super) fn config(addresses: &Addresses) -> Any {
    let (action, name) = if addresses.allow {
        (Action::Allow, "ambassador-ip-allow")
    } else {
        (Action::Deny, "ambassador-ip-deny")
    };
    let policy = Policy {
        permissions: vec![Permission {
            rule: Some(permission::Rule::Any(true)),
        }],
        principals: addresses.ranges.iter().map(principal).collect(),
        ..Policy::default()
    };
    let policies = (!addresses.ranges.is_empty()).then(|| (name.to_owned(), policy));
    any(&Rbac {
        rules: Some(Rules {
            action: action.into(),
            // one at most, so the order of the map is no matter
            policies: policies.into_iter().collect::<HashMap<_, _>>(),
            ..Rules::default()
        }),
        ..Rbac::default()
    })
}

fn principal(range: &AddressRange) -> Principal {
    let cidr = CidrRange {
        address_prefix: range.address.to_string(),
        prefix_len: Some(uint32(range.prefix.into())),
    };
    Principal {
        identifier: Some(if range.peer {
            Identifier::DirectRemoteIp(cidr)
        } else {
            Identifier::RemoteIp(cidr)
        }),
    }
}
