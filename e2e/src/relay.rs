//! A TCP relay that can stop to carry what is sent, as a network does when a connection is half open.

use anyhow::{Context as _, Result};
use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream},
    sync::watch,
    task::JoinHandle,
};

/// A running relay. It stops when dropped.
#[derive(Debug)]
pub struct Relay {
    address: String,
    frozen: watch::Sender<u64>,
    task: JoinHandle<()>,
}

impl Relay {
    /// Starts one from this address to another.
    ///
    /// # Errors
    /// The address is taken.
    pub async fn start(address: &str, target: &'static str) -> Result<Self> {
        let listener = TcpListener::bind(address)
            .await
            .with_context(|| format!("cannot listen on {address}"))?;
        let address = listener.local_addr()?.to_string();
        let (frozen, freezes) = watch::channel(0);
        let task = tokio::spawn(async move {
            while let Ok((mut near, _)) = listener.accept().await {
                let mut freezes = freezes.clone();
                freezes.mark_unchanged();
                tokio::spawn(async move {
                    let Ok(mut far) = TcpStream::connect(target).await else {
                        return;
                    };
                    tokio::select! {
                        _ = copy_bidirectional(&mut near, &mut far) => {}
                        Ok(()) = freezes.changed() => std::future::pending().await,
                    }
                });
            }
        });
        Ok(Self {
            address,
            frozen,
            task,
        })
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Carries nothing more on the connections that are open, and leaves them open. New connections work.
    pub fn freeze(&self) {
        self.frozen.send_modify(|freezes| *freezes += 1);
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.task.abort();
    }
}
