//! Route tables that the host name of a request selects, or the server name of its connection: `envoy.config.route.v3.ScopedRouteConfiguration`, and what a
//! connection manager needs for them.
//!
//! Envoy looks a table up by the exact value of a header, so a change of one host's routes costs nothing for the others, and
//! neither does their number. The header is set to the name of the table: the chain, and the host name as it was sent.
//!
//! That finds no table for a name in upper case, with a port or a dot at the end, and for those that only wildcards include.
//! Two filters follow, each only if none was found: the first changes the header to the name in lower case alone, the second
//! to the table for all other names. Both select the route again. Tables disable the filters, so that requests whose table
//! is found at once are not held up.
//!
//! TLS connections with a chain that serves many names have a simpler way: the header is set to the connection's server name,
//! which is one of the chain's, so that a table is found. Only a connection that is older than the chain's names can have
//! another one.
//!
//! A table that Envoy does not have yet answers 404. So there is a second scope for each table, which no header selects: it
//! makes Envoy load the table, and the one that requests select is sent when Envoy has it.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::filter::lua;
use crate::{
    Unit,
    ir::{self, TableKey, TableScope},
    pb::envoy::{
        config::{
            common::mutation_rules::v3::{HeaderMutation, header_mutation::Action},
            core::v3::{
                HeaderValue, HeaderValueOption, TypedExtensionConfig,
                header_value_option::HeaderAppendAction,
            },
            route::v3::{
                ScopedRouteConfiguration,
                scoped_route_configuration::{
                    Key,
                    key::{Fragment, fragment},
                },
            },
        },
        extensions::{
            filters::{
                http::lua::v3::{LuaPerRoute, lua_per_route::Override},
                network::http_connection_manager::v3::{
                    HttpFilter, ScopedRds, ScopedRoutes,
                    http_filter::ConfigType,
                    scoped_routes::{
                        ConfigSpecifier, ScopeKeyBuilder,
                        scope_key_builder::{
                            FragmentBuilder,
                            fragment_builder::{
                                self, HeaderValueExtractor, header_value_extractor::ExtractType,
                            },
                        },
                    },
                },
            },
            http::early_header_mutation::header_mutation::v3::HeaderMutation as EarlyHeaderMutation,
        },
    },
};

/// The header that selects a table. Clients cannot set it, and backends and AuthServices do not get it.
pub(crate) const HEADER: &str = "x-nuncio-route-table";

/// Filter for the host name in lower case, without port and dot.
const PLAIN_NAME: &str = "nuncio.route_table.plain_name";

/// Filter for all other names.
const OTHER_NAMES: &str = "nuncio.route_table.other_names";

/// Filter for connections whose server name has no table.
const NO_TABLE: &str = "nuncio.route_table.none";

/// Makes Envoy load a table, or lets requests select it.
pub(super) fn scope(unit: &Unit, table: &TableKey) -> ScopedRouteConfiguration {
    // the name of a unit that only loads a table is no value of the header
    let name = unit.name().to_string();
    ScopedRouteConfiguration {
        key: Some(Key {
            fragments: vec![Fragment {
                r#type: Some(fragment::Type::StringKey(name.clone())),
            }],
        }),
        name,
        route_configuration_name: table.to_string(),
        ..ScopedRouteConfiguration::default()
    }
}

/// Tables that the header selects.
pub(super) fn scoped_routes() -> ScopedRoutes {
    // all connection managers have the same, so that Envoy has one subscription for all
    ScopedRoutes {
        name: "route-tables".to_owned(),
        scope_key_builder: Some(ScopeKeyBuilder {
            fragments: vec![FragmentBuilder {
                r#type: Some(fragment_builder::Type::HeaderValueExtractor(
                    HeaderValueExtractor {
                        name: HEADER.to_owned(),
                        extract_type: Some(ExtractType::Index(0)),
                        ..HeaderValueExtractor::default()
                    },
                )),
            }],
        }),
        rds_config_source: Some(super::ads()),
        config_specifier: Some(ConfigSpecifier::ScopedRds(ScopedRds {
            scoped_rds_config_source: Some(super::ads()),
            ..ScopedRds::default()
        })),
    }
}

/// Sets the header to the table of the host name.
pub(super) fn header(others: &TableKey) -> TypedExtensionConfig {
    set_header(format!("{}%REQ(:authority)%", prefix(others)))
}

/// Sets the header to the table of the connection's server name, which Envoy has in lower case.
pub(super) fn server_name_header(listener: &ir::Listener) -> TypedExtensionConfig {
    set_header(format!("{}%REQUESTED_SERVER_NAME%", listener.table_of("")))
}

/// Sets the header, before anything else sees the request.
fn set_header(value: String) -> TypedExtensionConfig {
    let value = HeaderValue {
        key: HEADER.to_owned(),
        value,
        ..HeaderValue::default()
    };
    let mutation = HeaderMutation {
        action: Some(Action::Append(HeaderValueOption {
            header: Some(value),
            append_action: HeaderAppendAction::OverwriteIfExistsOrAdd.into(),
            ..HeaderValueOption::default()
        })),
    };
    TypedExtensionConfig {
        name: "nuncio.route_table".to_owned(),
        typed_config: Some(super::any(&EarlyHeaderMutation {
            mutations: vec![mutation],
        })),
    }
}

/// The filters for requests whose table was not found. They come before all others.
///
/// Envoy decides by the route that it finds first which filters a request passes through. A route that is found later can name
/// an AuthService whose filter is not among them; such requests get 500. They are those of chains that Envoy drains, since a
/// listener with AuthServices has no such filters.
pub(super) fn filters(others: &TableKey) -> [HttpFilter; 2] {
    let plain_name = format!(
        r#"string.lower(handle:headers():get(":authority") or "")
  table = string.gsub(table, ":%d*$", "")
  table = "{}" .. string.gsub(table, "%.$", "")"#,
        prefix(others)
    );
    let other_names = format!(r#""{others}""#);
    [(PLAIN_NAME, plain_name), (OTHER_NAMES, other_names)].map(|(name, table)| {
        let script = format!(
            r#"function envoy_on_request(handle)
  local table = {table}
  handle:headers():replace("{HEADER}", table)
  handle:clearRouteCache()
  if handle:metadata():get("{AUTHORIZED}") then
    handle:respond({{[":status"] = "500"}}, "")
  end
end
"#
        );
        HttpFilter {
            name: name.to_owned(),
            config_type: Some(ConfigType::TypedConfig(lua::script(&script))),
            ..HttpFilter::default()
        }
    })
}

/// The filter for connections whose server name has no table any more: it has moved to another chain, or is gone. Clients open
/// another connection (RFC 9110, 15.5.20).
pub(super) fn filter_without_table() -> HttpFilter {
    let script = r#"function envoy_on_request(handle)
  handle:respond({[":status"] = "421"}, "")
end
"#;
    HttpFilter {
        name: NO_TABLE.to_owned(),
        config_type: Some(ConfigType::TypedConfig(lua::script(script))),
        ..HttpFilter::default()
    }
}

/// Key in the metadata of routes that name an AuthService.
pub(super) const AUTHORIZED: &str = "authorized";

/// The filters that read the metadata of routes that name an AuthService.
pub(super) const FILTERS: [&str; 2] = [PLAIN_NAME, OTHER_NAMES];

/// Configuration of the filters for all routes of a table that the header selects: encoded `Any`s by name of the filter.
pub(super) fn per_table(table: &TableKey) -> BTreeMap<&'static str, Bytes> {
    let disabled = super::filter::any(&LuaPerRoute {
        r#override: Some(Override::Disabled(true)),
        ..LuaPerRoute::default()
    });
    match table.scope {
        TableScope::Tls(_) => BTreeMap::from([(NO_TABLE, disabled)]),
        TableScope::Cleartext
        | TableScope::Host(_)
        | TableScope::Redirects(_)
        | TableScope::OtherHosts => {
            BTreeMap::from([(PLAIN_NAME, disabled.clone()), (OTHER_NAMES, disabled)])
        }
    }
}

/// What the names of tables begin with that are for one host name.
fn prefix(others: &TableKey) -> String {
    let of_host = TableKey {
        listener: others.listener,
        scope: TableScope::Host("".into()),
    };
    of_host.to_string()
}
