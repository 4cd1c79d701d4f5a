//! `kat-server`: a backend for tests, configured by environment variables. See `--help`.

use std::io::Write as _;

use anyhow::Result;
use nuncio_kat::server::environment;

const HELP: &str = "\
kat-server: a backend for tests, on ports 8080 (cleartext) and 8443 (TLS, from server.crt and server.key)

  KAT_BACKEND_TYPE  http (default), grpc_echo, grpc_auth, grpc_rls, grpc_als, health_check_server
  BACKEND           the name of the backend
  BACKEND_8080, BACKEND_8443, BACKEND_8081, BACKEND_8444, ...
                    names for several pairs of ports (http), up to the first that is missing
  INCLUDE_EXTAUTH_HEADER                      http: add a response header extauth
  GRPC_AUTH_PROTOCOL_VERSION                  grpc_auth: v3, else v2
  GRPC_RLS_PROTOCOL_VERSION                   grpc_rls: v3, else v2
  HEALTHY_STATUS_CODE, UNHEALTHY_STATUS_CODE  health_check_server: 200 and 500

All ports speak HTTP/1.1 and HTTP/2. Websockets to an http backend get their text messages back.
TLS is 1.2 and 1.3. The v2 gRPC services have the messages of v3, whose encoding is the same.
";

#[tokio::main]
async fn main() -> Result<()> {
    if std::env::args()
        .nth(1)
        .is_some_and(|argument| argument.trim_start_matches('-') == "help")
    {
        std::io::stdout().write_all(HELP.as_bytes())?;
        return Ok(());
    }
    let _servers = environment::start().await?;
    terminated().await
}

/// Returns when the process gets a signal to terminate.
async fn terminated() -> Result<()> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut terminate = signal(SignalKind::terminate())?;
    tokio::select! {
        _ = terminate.recv() => Ok(()),
        interrupted = tokio::signal::ctrl_c() => Ok(interrupted?),
    }
}
