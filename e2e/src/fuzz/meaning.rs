//! Values that mean something where they stand, so that much of what is written at random is served.

use super::random::Random;

/// A text for a field, by its name and that of the field around it.
pub(super) fn text(path: &[String], random: &mut Random) -> String {
    let field = path.last().map_or("", String::as_str);
    let around = path.iter().rev().nth(1).map_or("", String::as_str);
    let choices = match (around, field) {
        ("tlsSecret" | "acmeProvider" | "privateKeySecret", "name") => SECRETS,
        ("tlsContext", "name") => &["c0", "c1", "missing"],
        ("cookie", "name") => &["session", "a.b"],
        ("ConsulResolver", "address") => AGENTS,
        ("matchLabels" | "matchExpressions", _) => &["x", "y", "1", "2"],
        _ => by_field(field),
    };
    let text = random.pick(choices);
    text.replace('#', &random.below(40).to_string())
}

/// Names of Secrets that every batch has, and of one that none has.
const SECRETS: &[&str] = &[
    "cert",
    "cert",
    "cert2",
    "authority",
    "revoked",
    "broken",
    "missing",
];

fn by_field(field: &str) -> &'static [&'static str] {
    match field {
        "prefix" => &[
            "/",
            "/#/",
            "/#/",
            "/#",
            "/#/a",
            "/A#/",
            "/#/[a-z]+/.*",
            "/#(/.*)?",
            "*",
        ],
        "hostname" | "host" | "hosts" | "authority" => HOSTS,
        "service" | "auth_service" => SERVICES,
        "resolver" => &[
            "",
            "endpoint",
            "endpoint",
            "kubernetes-service",
            "slices",
            "consul",
            "c0",
            "c1.default",
            "missing",
        ],
        "peer" | "remote" => &[
            "10.0.0.0/8",
            "127.0.0.1",
            "::1/128",
            "::/0",
            "10.0.0.0/33",
            "a",
        ],
        "lua_scripts" => SCRIPTS,
        "envoy_log_path" => &["/dev/stdout", "/dev/fd/1", "/nowhere/log", ""],
        "envoy_log_format" => FORMATS,
        "path_prefix" => &["/check", "check", "/", "//"],
        "collector_endpoint" => &["/api/v2/spans", "spans", ""],
        "domain" | "default_label_domain" => &["ambassador", "other"],
        "tls" | "tlsContext" => &["c0", "c1", "c2", "missing"],
        "datacenter" => &["dc1", "dc1", "east", "dc 1", ""],
        "token_secret" | "tls_secret" => &["token", "token", "cert", "broken", "missing"],
        "secret" | "ca_secret" | "crl_secret" => SECRET_NAMES,
        "alpn_protocols" => &["h2,http/1.1", "h2", "http/1.1", "h2, http/1.1,h2"],
        "cipher_suites" => &[
            "ECDHE-RSA-AES128-GCM-SHA256",
            "[ECDHE-ECDSA-AES128-GCM-SHA256|ECDHE-ECDSA-CHACHA20-POLY1305]",
            "AES256-SHA",
            "ECDHE-PSK-AES128-CBC-SHA",
        ],
        "ecdh_curves" => &["P-256", "P-384", "P-521", "X25519", "X25519MLKEM768"],
        "sni" => &["a.example", "b.example"],
        "method" | "methods" => &["GET", "POST", "GET|PUT", ".*", "PATCH"],
        "rewrite" | "path_redirect" | "prefix_redirect" | "path" | "url" => {
            &["/", "", "/x/", "/x?a=b", "x", "//", "/x#y"]
        }
        "pattern" => &["/(.*)", "^/a/([^/]+)/?$", "(?i)/x", "/a|/b"],
        "substitution" => &[r"/\1", r"\0", "/x", ""],
        "timeout" | "interval" | "ttl" | "per_try_timeout" => {
            &["1s", "500ms", "1m30s", "0s", "1.5s"]
        }
        "idle_timeout_ms" | "max_age" => &["0", "1000", "86400"],
        "outlier_detection" => OUTLIERS,
        "address" => &["127.0.0.1", "127.0.0.3", "0.0.0.0", "::1", "::"],
        "priority" => &["default", "high", "HIGH"],
        "dns_type" => &["strict_dns", "logical_dns", "LOGICAL_DNS"],
        "allow_upgrade" => &["websocket", "WebSocket", "tcp", "CONNECT", "spdy/3.1"],
        "ambassador_id" => &["default", "_automatic_"],
        "origins" => &["*", "https://a.example", "https://*.example", "null"],
        "operator" => &["In", "NotIn", "Exists", "DoesNotExist"],
        "labels" => &["ambassador", "ambassador", "other"],
        "content_type" => &["text/plain", "application/json; charset=utf-8"],
        "text_format" | "json_format" => FORMATS,
        "value" | "add_request_headers.value" => FORMATS,
        "stats_name" | "statsPrefix" | "cluster_tag" => &["a", "b", "a.b"],
        _ => WORDS,
    }
}

const HOSTS: &[&str] = &[
    "*",
    "a.example",
    "a.example",
    "b.example",
    "*.example",
    "a.*",
    "*example",
    "A.Example",
    "a.example:8080",
    "*.b.example",
    "[::1]",
    "10.0.0.1",
];

const SERVICES: &[&str] = &[
    "web",
    "web",
    "web:8080",
    "https://web",
    "web.other",
    "web.default.svc.cluster.local:8080",
    "outside",
    "127.0.0.1:9",
    "[::1]:9",
    "10.96.1.1:80",
    "https://10.96.1.1",
    "name.invalid:81",
    "http://user@web/path",
    "localhost:9",
    "missing",
];

const SECRET_NAMES: &[&str] = &[
    "cert",
    "cert",
    "cert2.default",
    "cert.other",
    "authority",
    "authority",
    "revoked",
    "broken",
    "missing",
    "missing.nowhere",
];

/// Addresses of Consul agents.
const AGENTS: &[&str] = &[
    "",
    "127.0.0.1:8500",
    "consul",
    "https://consul.invalid:8501",
    "[::1]:8500",
    "$CONSUL_ADDR:8500",
    "${CONSUL_ADDR",
    "unix:///run/consul",
    "unix://run",
    "ftp://consul",
    "consul:0",
];

const OUTLIERS: &[&str] = &[
    "{consecutive_5xx: 5}",
    "{consecutive_5xx: 0, interval: 1s}",
    "{\"consecutive_gateway_failure\": 3, \"base_ejection_time\": \"1s\"}",
    "max_ejection_percent: 100",
    "{base_ejection_time: 10000s, interval: 0.5ms}",
];

const FORMATS: &[&str] = &[
    "plain",
    "%PROTOCOL% %RESPONSE_CODE%",
    "%REQ(x-a?:path):10%",
    "100%%",
    "%START_TIME(%Y)%",
    "a%UPSTREAM_HOST%b",
    "",
];

/// None fails at its top level: that would be found by Envoy alone.
const SCRIPTS: &[&str] = &[
    "function envoy_on_request(h) h:headers():add('x-a', [[b]]) end",
    "local n = 0x1.8p1 + 2LL ::again:: if n == 0 then goto again end",
    "#!lua\nreturn function(...) return {..., [1] = '\\z  \\u{41}'} end",
    "function envoy_on_request(h) goto done ::done:: ; break end",
    "function envoy_on_response(",
    "x = 'unclosed",
    "-- nothing",
];

const WORDS: &[&str] = &[
    "a",
    "b",
    "x-a",
    "X-B",
    "x-c",
    "1",
    "some.text",
    ":method",
    ":path",
    "/x/",
    "a.*",
    "[a-z]+",
];

/// A number for a field.
pub(super) fn number(field: &str, random: &mut Random) -> i64 {
    let choices: &[i64] = match field {
        "port" | "additionalPort" => &[8080, 8443, 7001, 7002, 7003],
        "weight" => &[0, 1, 10, 50, 100],
        "on_status_code" => &[404, 500, 503],
        "min" | "max" => &[100, 200, 299, 599],
        "redirect_response_code" => &[301, 302, 303, 307, 308],
        "l7Depth" | "precedence" => &[0, 1, 2, -1],
        name if name.ends_with("_ms") => &[0, 1, 1000, 60_000, 86_400_000],
        _ => &[0, 1, 2, 5, 100, 1024],
    };
    choices[random.below(choices.len())]
}
