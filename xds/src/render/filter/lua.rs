//! `envoy.extensions.filters.http.lua.v3.Lua`: scripts.

use crate::{
    pb::{
        envoy::{
            config::core::v3::{DataSource, data_source::Specifier},
            extensions::filters::http::lua::v3::Lua,
        },
        google::protobuf::Any,
    },
    render::any,
};

/// A filter that does nothing.
pub(super) fn off() -> Any {
    any(&Lua::default())
}

/// A filter that runs a script.
pub(in crate::render) fn script(code: &str) -> Any {
    any(&Lua {
        default_source_code: Some(DataSource {
            specifier: Some(Specifier::InlineString(code.to_owned())),
            ..DataSource::default()
        }),
        ..Lua::default()
    })
}

/// A filter for an authorization service that cannot be used.
pub(super) fn authorization_error(message: &str) -> Any {
    error(500, message)
}

/// A filter for a script that cannot be used.
pub(super) fn script_error() -> Any {
    error(503, "lua_scripts of the Module does not load")
}

/// A filter that answers this to all requests but those of probes.
fn error(status: u16, message: &str) -> Any {
    script(&format!(
        r#"function envoy_on_request(handle)
  local headers = handle:headers()
  local path = headers:get(":path")
  if path == "/ambassador/v0/check_alive" or path == "/ambassador/v0/check_ready" then
    return
  end
  local id = headers:get("x-request-id") or ""
  id = string.gsub(id, "[^%w%-]", "")
  local body = '{{"message":{message},"request_id":"' .. id .. '","status_code":{status}}}'
  handle:respond({{[":status"] = "{status}", ["content-type"] = "application/json"}}, body)
end
"#,
        message = text(message),
    ))
}

/// A JSON string inside a Lua string in single quotes.
fn text(message: &str) -> String {
    let plain = message.chars().map(|c| match c {
        '"' | '\\' | '\'' => ' ',
        c if c.is_control() => ' ',
        c => c,
    });
    format!("\"{}\"", plain.collect::<String>())
}
