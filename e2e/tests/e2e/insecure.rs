//! Which requests are secure, by Listener and `x-forwarded-proto`, and how insecure ones are handled.

use anyhow::{Context as _, Result, ensure};
use nuncio_e2e::{certificate::Authority, wait::until};
use nuncio_kat::server::{Http, Listen, Server};
use serde_json::{Value, json};

use crate::{
    Space,
    answer::{answered, ask_all, is_closed, query, reached, returned},
    fixture::{labelled, mapping},
};

const MODELS: [&str; 3] = ["XFP", "SECURE", "INSECURE"];
const ACTIONS: [&str; 3] = ["Redirect", "Route", "Reject"];
const CHALLENGE: &str = "/.well-known/acme-challenge/";

/// A Listener of the matrix.
struct Socket {
    model: &'static str,
    depth: u16,
    /// Whether it also terminates TLS.
    tls: bool,
    port: u16,
}

/// A request of the matrix.
struct Case {
    action: &'static str,
    path: &'static str,
    /// Whether the connection uses TLS.
    tls: bool,
    /// The client's `x-forwarded-proto`.
    says: Option<&'static str>,
}

impl Socket {
    fn all() -> Vec<Self> {
        let mut sockets = Vec::new();
        for model in MODELS {
            for (depth, tls) in [0, 1, 2]
                .into_iter()
                .flat_map(|depth| [(depth, false), (depth, true)])
            {
                let port = 9100 + u16::try_from(sockets.len()).unwrap_or_default();
                sockets.push(Self {
                    model,
                    depth,
                    tls,
                    port,
                });
            }
        }
        sockets
    }

    fn name(&self) -> String {
        format!("insecure-{}", self.port)
    }

    fn manifest(&self) -> String {
        let Self {
            model,
            depth,
            tls,
            port,
        } = self;
        let protocol = if *tls { "HTTPS" } else { "HTTP" };
        let spec = format!(
            "port: {port}, protocol: {protocol}, securityModel: {model}, l7Depth: {depth}, hostBinding: {{selector: {{matchLabels: {{test: insecure}}}}}}"
        );
        labelled("Listener", &self.name(), "test: insecure", &spec)
    }

    fn cases(&self) -> Vec<Case> {
        let mut cases = Vec::new();
        for action in ACTIONS {
            for path in ["/page/a?q=1", "/.well-known/acme-challenge/token"] {
                for tls in [false, true].into_iter().filter(|tls| self.tls || !tls) {
                    for says in [None, Some("http"), Some("https")] {
                        cases.push(Case {
                            action,
                            path,
                            tls,
                            says,
                        });
                    }
                }
            }
        }
        cases
    }
}

impl Case {
    fn query(&self, socket: &Socket, authority: &Authority) -> Value {
        let said = self.says.map(|says| ("x-forwarded-proto", says));
        let mut query = query(&self.host(), self.path, said.as_slice());
        let scheme = if self.tls { "https" } else { "http" };
        query["url"] = json!(format!("{scheme}://127.0.0.1:{}{}", socket.port, self.path));
        query["sni"] = json!(true);
        query["ca_cert"] = json!(authority.pem());
        query
    }

    fn host(&self) -> String {
        format!("{}.insecure.example", self.action.to_lowercase())
    }

    /// The scheme that reaches the backend: the client's header counts only if the client is a trusted proxy.
    fn scheme(&self, socket: &Socket) -> &'static str {
        let own = if self.tls { "https" } else { "http" };
        self.says.filter(|_| socket.depth > 0).unwrap_or(own)
    }

    fn check(&self, socket: &Socket, answer: &Value) -> Result<()> {
        if socket.tls && !self.tls && socket.model == "SECURE" {
            // everything counts as secure, but this connection is cleartext
            ensure!(is_closed(answer), "the connection is not closed");
            return Ok(());
        }
        let is_secure = match socket.model {
            "SECURE" => true,
            "INSECURE" => false,
            _ => self.scheme(socket) == "https",
        };
        let status = match self.action {
            _ if is_secure || self.path.starts_with(CHALLENGE) => 200,
            "Redirect" => 301,
            "Route" => 200,
            _ => 404,
        };
        ensure!(answer["status"] == status, "{status} was expected");
        if status == 301 {
            let location = format!("https://{}{}", self.host(), self.path);
            ensure!(
                *returned(answer, "Location") == json!([location]),
                "it redirects elsewhere"
            );
        }
        if status == 200 {
            let value = reached(answer, "x-forwarded-proto");
            ensure!(
                *value == json!([self.scheme(socket)]),
                "the backend gets {value}"
            );
        }
        Ok(())
    }
}

pub(crate) async fn insecure_requests_are_treated_as_asked(space: &Space) -> Result<()> {
    let _server =
        Server::start(&Listen::on("10.96.50.1:80"), Http::new("insecure").router()).await?;
    let authority = Authority::new()?;
    let sockets = Socket::all();
    let mut manifests = vec![
        authority
            .issue(&["*.insecure.example"])?
            .secret(&space.namespace, "insecure"),
        mapping(
            "insecure",
            "'*.insecure.example'",
            "/page/",
            "10.96.50.1",
            "",
        ),
        mapping(
            "insecure-challenge",
            "'*.insecure.example'",
            CHALLENGE,
            "10.96.50.1",
            ", rewrite: ''",
        ),
        mapping(
            "insecure-exact",
            "redirect.insecure.example",
            "/.well-known/acme-challenge/exact",
            "10.96.50.1",
            ", prefix_exact: true",
        ),
        // requests that a Host rejects must not be served by one with a wildcard
        labelled(
            "Host",
            "insecure-any",
            "test: insecure",
            "hostname: '*.insecure.example', tlsSecret: {name: insecure}, requestPolicy: {insecure: {action: Route}}",
        ),
    ];
    for action in ACTIONS {
        let name = action.to_lowercase();
        let spec = format!(
            "hostname: {name}.insecure.example, tlsSecret: {{name: insecure}}, requestPolicy: {{insecure: {{action: {action}}}}}"
        );
        manifests.push(labelled(
            "Host",
            &format!("insecure-{name}"),
            "test: insecure",
            &spec,
        ));
    }
    manifests.extend(sockets.iter().map(Socket::manifest));
    space.apply(&manifests.concat())?;
    for socket in &sockets {
        until(&socket.name(), || {
            all_are_treated_as_asked(socket, &authority)
        })
        .await
        .with_context(|| socket.manifest())?;
    }
    // only the challenge prefix itself is exempt, not every Mapping below it
    let path = "/.well-known/acme-challenge/exact";
    let mut exact = query("redirect.insecure.example", path, &[]);
    exact["url"] = json!(format!("http://127.0.0.1:{}{path}", sockets[0].port));
    answered(&exact, 301).await?;
    Ok(())
}

async fn all_are_treated_as_asked(socket: &Socket, authority: &Authority) -> Result<()> {
    let cases = socket.cases();
    let queries = cases.iter().map(|case| case.query(socket, authority));
    let answers = ask_all(queries.collect()).await?;
    for (case, answer) in cases.iter().zip(&answers) {
        case.check(socket, answer).with_context(|| {
            let Case {
                path, tls, says, ..
            } = case;
            format!(
                "{path} of {}, TLS: {tls}, x-forwarded-proto: {says:?}: {answer}",
                case.host()
            )
        })?;
    }
    Ok(())
}

pub(crate) async fn the_client_is_the_one_that_trusted_proxies_name(space: &Space) -> Result<()> {
    let _server = Server::start(&Listen::on("10.96.50.2:80"), Http::new("named").router()).await?;
    let mut manifests = vec![
        mapping("trusted", "trusted.example", "/", "10.96.50.2", ""),
        labelled(
            "Host",
            "trusted",
            "test: trusted",
            "hostname: trusted.example, requestPolicy: {insecure: {action: Route}}",
        ),
    ];
    let depths = [
        (0, "127.0.0.1"),
        (1, "203.0.113.3"),
        (2, "198.51.100.2"),
        (3, "192.0.2.1"),
    ];
    for (depth, _) in depths {
        let spec = format!(
            "port: 912{depth}, protocol: HTTP, securityModel: XFP, l7Depth: {depth}, hostBinding: {{selector: {{matchLabels: {{test: trusted}}}}}}"
        );
        manifests.push(labelled(
            "Listener",
            &format!("trusted-{depth}"),
            "test: trusted",
            &spec,
        ));
    }
    space.apply(&manifests.concat())?;
    let path = "192.0.2.1, 198.51.100.2, 203.0.113.3";
    for (depth, named) in depths {
        let mut query = query("trusted.example", "/", &[("x-forwarded-for", path)]);
        query["url"] = json!(format!("http://127.0.0.1:912{depth}/"));
        let answer = answered(&query, 200).await?;
        let value = reached(&answer, "x-envoy-external-address");
        ensure!(
            *value == json!([named]),
            "l7Depth {depth}: the address is {value}"
        );
        let value = reached(&answer, "x-forwarded-for");
        ensure!(
            *value == json!([format!("{},127.0.0.1", path)]),
            "l7Depth {depth}: x-forwarded-for is {value}"
        );
    }
    Ok(())
}
