//! Clients that only connect do not stop the health server, even if there are more of them than file descriptors.

use std::{
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

/// Ends the process.
struct Nuncio(Child);

impl Drop for Nuncio {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn alive(address: SocketAddr) -> std::io::Result<bool> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    stream.write_all(
        b"GET /ambassador/v0/check_alive HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n",
    )?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer.starts_with("HTTP/1.1 200"))
}

#[test]
fn more_idle_clients_than_descriptors_do_not_stop_health_checks() -> anyhow::Result<()> {
    let directory = tempfile::tempdir()?;
    let address = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
    // a limit above our own one of connections, and one below it
    for limit in ["200", "60"] {
        let script = format!("ulimit -n {limit}; exec \"$0\" \"$@\"");
        let xds = format!("unix:{}/xds.sock", directory.path().display());
        let child = Command::new("sh")
            .args(["-c", &script, env!("CARGO_BIN_EXE_nuncio"), "serve"])
            .arg(directory.path())
            .args(["--xds-address", &xds, "--health-address"])
            .arg(address.to_string())
            .stderr(Stdio::null())
            .spawn()?;
        let _nuncio = Nuncio(child);
        let start = Instant::now();
        while !alive(address).unwrap_or_default() {
            anyhow::ensure!(
                start.elapsed() < Duration::from_secs(20),
                "no health server"
            );
            thread::sleep(Duration::from_millis(20));
        }
        let idle: Vec<TcpStream> = (0..300)
            .map(|_| TcpStream::connect(address))
            .collect::<Result<_, _>>()?;
        let start = Instant::now();
        while !alive(address).unwrap_or_default() {
            anyhow::ensure!(
                start.elapsed() < Duration::from_secs(20),
                "{} idle clients stop it at {limit} descriptors",
                idle.len()
            );
        }
    }
    Ok(())
}
