//! A request as JSON.

use std::collections::BTreeMap;

use axum::http::{Version, header, request::Parts};
use percent_encoding::percent_decode_str;
use serde_json::{Value, json};

use super::connection::Connection;
use crate::header as headers;

/// The `request` of an answer.
pub(super) fn describe(parts: &Parts) -> Value {
    let tls = parts
        .extensions
        .get::<Connection>()
        .and_then(|connection| connection.tls.as_ref())
        .map_or_else(|| json!({"enabled": false}), |session| session.to_json());
    json!({
        "url": url(parts),
        "method": parts.method.as_str(),
        "headers": request_headers(parts),
        "host": host(parts),
        "tls": tls,
    })
}

/// The authority of the request.
fn host(parts: &Parts) -> String {
    let named = || parts.headers.get(header::HOST).map(headers::text);
    let authority = parts.uri.authority().map(|authority| {
        let authority = authority.as_str();
        authority
            .rsplit_once('@')
            .map_or(authority, |(_, host)| host)
            .to_owned()
    });
    authority.or_else(named).unwrap_or_default()
}

/// The target, taken apart. HTTP/2 sends scheme and authority beside it, so they are no part of it.
fn url(parts: &Parts) -> Value {
    let raw_query = parts.uri.query().unwrap_or_default();
    let mut query = BTreeMap::<_, Vec<_>>::new();
    for (name, value) in form_urlencoded::parse(raw_query.as_bytes()) {
        query.entry(name).or_default().push(value);
    }
    let mut url = json!({
        "fragment": "",
        "host": "",
        "opaque": "",
        "path": percent_decode_str(parts.uri.path()).decode_utf8_lossy(),
        "query": query,
        "rawQuery": raw_query,
        "scheme": "",
    });
    if parts.version < Version::HTTP_2
        && let Some(authority) = parts.uri.authority()
    {
        url["scheme"] = parts.uri.scheme_str().unwrap_or_default().into();
        url["host"] = host(parts).into();
        if let Some((user, _)) = authority.as_str().rsplit_once('@') {
            let (name, password) = user.split_once(':').unzip();
            url["username"] = name.unwrap_or(user).into();
            if let Some(password) = password {
                url["password"] = password.into();
            }
        }
    }
    url
}

/// All but the host; the parts of a cookie, which HTTP/2 may send one by one, as one.
fn request_headers(parts: &Parts) -> Value {
    let mut map = parts.headers.clone();
    map.remove(header::HOST);
    map.remove(header::TRANSFER_ENCODING);
    if parts.version == Version::HTTP_2 && map.contains_key(header::COOKIE) {
        let crumbs: Vec<_> = map
            .get_all(header::COOKIE)
            .iter()
            .map(headers::text)
            .collect();
        map.insert(header::COOKIE, headers::value(crumbs.join("; ").as_bytes()));
    }
    headers::lower(&map)
}

#[cfg(test)]
mod tests {
    use axum::http::Request;

    use super::*;

    fn parts(request: axum::http::request::Builder) -> Parts {
        request.body(()).unwrap().into_parts().0
    }

    #[test]
    fn a_path_is_decoded_and_a_query_taken_apart() {
        let request = parts(Request::get("/a%20b?x=1&x=%32&y"));
        let url = &describe(&request)["url"];
        assert_eq!(url["path"], "/a b");
        assert_eq!(url["rawQuery"], "x=1&x=%32&y");
        assert_eq!(url["query"], json!({"x": ["1", "2"], "y": [""]}));
        assert_eq!(url.get("username"), None);
    }

    #[test]
    fn an_absolute_target_names_its_user() {
        let request = parts(Request::get("http://me:secret@there:81/").header("host", "other"));
        let described = describe(&request);
        assert_eq!(described["host"], "there:81");
        assert_eq!(described["url"]["host"], "there:81");
        assert_eq!(described["url"]["scheme"], "http");
        assert_eq!(described["url"]["username"], "me");
        assert_eq!(described["url"]["password"], "secret");
    }

    #[test]
    fn crumbs_of_http2_are_one_cookie() {
        let request = Request::get("https://there/").version(Version::HTTP_2);
        let request = parts(request.header("cookie", "a=1").header("cookie", "b=2"));
        let described = describe(&request);
        assert_eq!(described["headers"], json!({"cookie": ["a=1; b=2"]}));
        assert_eq!(described["host"], "there");
        assert_eq!(described["url"]["host"], "");
    }
}
