//! Listeners behind a TCP proxy that sends the client's address in a PROXY header, version 1 or 2.

use anyhow::{Context as _, Result, bail, ensure};
use nuncio_e2e::{
    certificate::Authority,
    client::{Answer, Connection, tls_config},
    wait::until,
};
use nuncio_kat::server::{Http, Listen, Server};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use crate::{
    Space,
    fixture::{labelled, mapping, object},
};

const HOST: &str = "proxy.example";
/// The start of a header of version 2.
const SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";

/// Protocols of the Listeners by port, and whether TLS follows the PROXY header.
const STACKS: [(u16, &str, bool); 6] = [
    (9140, "protocol: HTTPPROXY", false),
    (9141, "protocolStack: [PROXY, HTTP, TCP]", false),
    (9142, "protocol: HTTPSPROXY", true),
    (9143, "protocolStack: [PROXY, TLS, HTTP, TCP]", true),
    (9144, "protocolStack: [TLS, PROXY, HTTP, TCP]", true),
    (9145, "protocolStack: [PROXY, TLS, HTTP, TCP]", false),
];
/// A Listener without HTTP.
const TCP: u16 = 9146;

/// A header of version 2: a command and the addresses.
fn second(command: u8, family: u8, addresses: &[u8]) -> Vec<u8> {
    let length = u16::try_from(addresses.len()).unwrap_or_default();
    [
        SIGNATURE,
        &[0x20 | command, family],
        &length.to_be_bytes(),
        addresses,
    ]
    .concat()
}

/// Headers, and the client address that each gives; without one it is the address of the proxy.
fn headers() -> Vec<(Vec<u8>, &'static str)> {
    let ipv4 = [203, 0, 113, 9, 10, 0, 0, 1, 0x10, 0xe1, 0x01, 0xbb];
    let mut ipv6 = [0; 36];
    for (place, last) in [(0, 9), (16, 1)] {
        ipv6[place..place + 4].copy_from_slice(&[0x20, 0x01, 0x0d, 0xb8]);
        ipv6[place + 15] = last;
    }
    vec![
        (
            b"PROXY TCP4 203.0.113.7 10.0.0.1 4321 443\r\n".to_vec(),
            "203.0.113.7",
        ),
        (
            b"PROXY TCP6 2001:db8::7 2001:db8::1 4321 443\r\n".to_vec(),
            "2001:db8::7",
        ),
        (b"PROXY UNKNOWN\r\n".to_vec(), "127.0.0.1"),
        (second(1, 0x11, &ipv4), "203.0.113.9"),
        (second(1, 0x21, &ipv6), "2001:db8::9"),
        (second(0, 0, &[]), "127.0.0.1"),
    ]
}

pub(crate) async fn the_client_is_the_one_that_the_proxy_header_names(space: &Space) -> Result<()> {
    let _server = Server::start(&Listen::on("10.96.51.1:80"), Http::new("proxy").router()).await?;
    let authority = Authority::new()?;
    let mut manifests = vec![
        authority.issue(&[HOST])?.secret(&space.namespace, "proxy"),
        labelled(
            "Host",
            "proxy",
            "test: proxy",
            &format!(
                "hostname: {HOST}, tlsSecret: {{name: proxy}}, requestPolicy: {{insecure: {{action: Route}}}}"
            ),
        ),
        mapping("proxy", HOST, "/", "10.96.51.1", ""),
        object(
            "TCPMapping",
            "proxy",
            &format!("port: {TCP}, service: 10.96.51.1"),
        ),
    ];
    for (port, stack) in STACKS
        .map(|(port, stack, _)| (port, stack))
        .into_iter()
        .chain([(TCP, "protocolStack: [PROXY, TCP]")])
    {
        let spec = format!(
            "port: {port}, {stack}, securityModel: XFP, hostBinding: {{selector: {{matchLabels: {{test: proxy}}}}}}"
        );
        manifests.push(labelled(
            "Listener",
            &format!("proxy-{port}"),
            "test: proxy",
            &spec,
        ));
    }
    space.apply(&manifests.concat())?;
    for (port, stack, tls) in STACKS {
        for (header, client) in headers() {
            let shown = String::from_utf8_lossy(&header).into_owned();
            until(stack, || {
                names_client(port, &header, client, tls, &authority)
            })
            .await
            .with_context(|| shown)?;
        }
        for header in [
            &b""[..],
            b"PROXY TCP4 nonsense\r\n",
            &second(1, 0x11, &[1, 2]),
        ] {
            closes(port, header, tls)
                .await
                .with_context(|| format!("{stack} after {header:?}"))?;
        }
    }
    until("bytes without HTTP", || {
        is_passed_on(b"PROXY TCP4 203.0.113.7 10.0.0.1 4321 443\r\n")
    })
    .await?;
    ensure!(
        is_passed_on(b"").await.is_err(),
        "accepted without a PROXY header"
    );
    Ok(())
}

/// Whether the backend gets the address of this client, even if the client sends proxy headers itself.
async fn names_client(
    port: u16,
    header: &[u8],
    client: &str,
    tls: bool,
    authority: &Authority,
) -> Result<()> {
    let claims = [
        ("x-forwarded-for", "192.0.2.66"),
        ("x-forwarded-proto", "https"),
    ];
    let address = format!("127.0.0.1:{port}");
    let mut connection = if tls {
        let config = tls_config(&authority.der(), None)?;
        Connection::open_tls_behind(&address, header, HOST, config.into()).await?
    } else {
        Connection::open_behind(&address, header).await?
    };
    let answer = connection.get_with(HOST, "/", &claims).await?;
    let headers = received(&answer)?;
    ensure!(
        headers["x-envoy-external-address"] == json!([client]),
        "{headers} have another address than {client}"
    );
    ensure!(
        headers["x-forwarded-for"] == json!([format!("192.0.2.66,{client}")]),
        "{headers} do not add {client}"
    );
    let scheme = if tls { "https" } else { "http" };
    ensure!(
        headers["x-forwarded-proto"] == json!([scheme]),
        "{headers} have another scheme than {scheme}"
    );
    Ok(())
}

/// The headers that reached the backend.
fn received(answer: &Answer) -> Result<Value> {
    ensure!(answer.status == 200, "{answer:?}");
    let body: Value = serde_json::from_str(&answer.body)?;
    Ok(body["request"]["headers"].clone())
}

/// A connection without a complete PROXY header is closed without an answer.
async fn closes(port: u16, header: &[u8], tls: bool) -> Result<()> {
    // the start of a TLS ClientHello, with a matching length
    let hello: Vec<u8> = [&[0x16, 3, 1, 0, 64, 1, 0, 0, 60, 3, 3][..], &[7; 58]].concat();
    let request = format!("GET / HTTP/1.1\r\nhost: {HOST}\r\n\r\n").into_bytes();
    let mut stream = TcpStream::connect(("127.0.0.1", port)).await?;
    stream
        .write_all(&[header, if tls { &hello } else { &request }].concat())
        .await?;
    let mut answer = Vec::new();
    let read = stream.read_to_end(&mut answer);
    match tokio::time::timeout(std::time::Duration::from_secs(5), read).await {
        Err(_elapsed) => bail!("the connection stays open"),
        // unread bytes turn a close into a reset
        Ok(_closed) => ensure!(
            answer.is_empty(),
            "{:?} comes back",
            String::from_utf8_lossy(&answer)
        ),
    }
    Ok(())
}

async fn is_passed_on(header: &[u8]) -> Result<()> {
    let mut connection = Connection::open_behind(&format!("127.0.0.1:{TCP}"), header).await?;
    let headers = received(&connection.get(HOST, "/").await?)?;
    ensure!(
        headers["x-forwarded-for"].is_null(),
        "{headers} are not those that were sent"
    );
    Ok(())
}
