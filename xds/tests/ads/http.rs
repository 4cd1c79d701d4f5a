//! A minimal HTTP/1.1 client, with one request per connection, and a backend.

use std::net::SocketAddr;

use anyhow::{Context as _, Result};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    time::timeout,
};

use crate::server::TIMEOUT;

/// Status and body of a response.
pub(crate) async fn get(address: SocketAddr, path: &str) -> Result<(u16, String)> {
    let exchange = async {
        let mut stream = TcpStream::connect(address).await?;
        let request = format!("GET {path} HTTP/1.1\r\nhost: test\r\nconnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await?;
        let mut response = Vec::new();
        stream.read_to_end(&mut response).await?;
        anyhow::Ok(String::from_utf8(response)?)
    };
    let response = timeout(TIMEOUT, exchange).await??;
    let (head, body) = response
        .split_once("\r\n\r\n")
        .context("response is not HTTP")?;
    let status = head
        .split(' ')
        .nth(1)
        .context("response has no status")?
        .parse()?;
    let is_chunked = head
        .to_ascii_lowercase()
        .contains("transfer-encoding: chunked");
    Ok((
        status,
        if is_chunked {
            unchunked(body)?
        } else {
            body.to_owned()
        },
    ))
}

fn unchunked(mut rest: &str) -> Result<String> {
    let mut body = String::new();
    loop {
        let (length, content) = rest.split_once("\r\n").context("a chunk has no length")?;
        let length = usize::from_str_radix(length, 16)?;
        if length == 0 {
            return Ok(body);
        }
        body.push_str(content.get(..length).context("a chunk is too short")?);
        rest = content.get(length + 2..).context("a chunk has no end")?;
    }
}

/// A backend that responds 200 to every request until the test ends.
pub(crate) async fn backend() -> Result<SocketAddr> {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
    let address = listener.local_addr()?;
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut request = [0; 4096];
                while stream.read(&mut request).await.is_ok_and(|read| read > 0) {
                    let response = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
                    if stream.write_all(response).await.is_err() {
                        return;
                    }
                }
            });
        }
    });
    Ok(address)
}
