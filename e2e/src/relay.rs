//! A TCP relay that can stop to carry what is sent, as a network does that is partitioned or loses connections.

use std::{future::pending, io, pin::pin};

use anyhow::{Context as _, Result};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    sync::watch,
    task::JoinHandle,
};

/// A running relay. It stops when dropped.
#[derive(Debug)]
pub struct Relay {
    address: String,
    network: watch::Sender<Network>,
    task: JoinHandle<()>,
}

/// What the relay carries.
#[derive(Clone, Copy, Debug, Default)]
struct Network {
    /// Whether nothing is carried at all.
    is_partitioned: bool,
    /// How often the connections that were open have been lost.
    losses: u64,
    /// How often they have been closed.
    closings: u64,
}

impl Relay {
    /// Starts one from this address to another.
    ///
    /// # Errors
    /// The address is taken.
    pub async fn start(address: &str, target: &str) -> Result<Self> {
        let listener = TcpListener::bind(address)
            .await
            .with_context(|| format!("cannot listen on {address}"))?;
        let (address, target) = (listener.local_addr()?.to_string(), target.to_owned());
        let (network, state) = watch::channel(Network::default());
        let task = tokio::spawn(async move {
            while let Ok((near, _)) = listener.accept().await {
                tokio::spawn(carry(near, target.clone(), state.clone()));
            }
        });
        Ok(Self {
            address,
            network,
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
        self.network.send_modify(|network| network.losses += 1);
    }

    /// Closes the connections that are open. New connections work.
    pub fn close(&self) {
        self.network.send_modify(|network| network.closings += 1);
    }

    /// Carries nothing, on open and on new connections, until [`Self::heal`].
    pub fn partition(&self) {
        self.network
            .send_modify(|network| network.is_partitioned = true);
    }

    /// Carries everything again, also what was sent meanwhile.
    pub fn heal(&self) {
        self.network
            .send_modify(|network| network.is_partitioned = false);
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn carry(near: TcpStream, target: String, network: watch::Receiver<Network>) {
    let (mut lost, losses) = (network.clone(), network.borrow().losses);
    let (mut closed, closings) = (network.clone(), network.borrow().closings);
    let carried = async {
        connected(network.clone()).await;
        let far = TcpStream::connect(target).await?;
        let (near_read, near_write) = near.into_split();
        let (far_read, far_write) = far.into_split();
        tokio::try_join!(
            copy(near_read, far_write, network.clone()),
            copy(far_read, near_write, network),
        )
    };
    let freezes = async {
        let _ = lost.wait_for(|network| network.losses != losses).await;
    };
    let closes = async {
        let _ = closed
            .wait_for(|network| network.closings != closings)
            .await;
    };
    // both connections stay open
    let mut carried = pin!(carried);
    let carried_or_frozen = async {
        tokio::select! {
            _ = &mut carried => {}
            () = freezes => pending().await,
        }
    };
    tokio::select! {
        () = carried_or_frozen => {}
        () = closes => {}
    }
}

async fn copy(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    network: watch::Receiver<Network>,
) -> io::Result<()> {
    let mut buffer = vec![0; 64 << 10];
    loop {
        let length = from.read(&mut buffer).await?;
        connected(network.clone()).await;
        if length == 0 {
            return to.shutdown().await;
        }
        to.write_all(&buffer[..length]).await?;
    }
}

/// Waits until the network is not partitioned.
async fn connected(mut network: watch::Receiver<Network>) {
    let healed = network.wait_for(|network| !network.is_partitioned);
    if healed.await.map(drop).is_err() {
        // the relay is gone, and its network with it
        pending().await
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::timeout;

    use super::*;

    /// Sends a byte and waits for its echo.
    async fn echoes(stream: &mut TcpStream) -> bool {
        let exchange = async {
            stream.write_all(b"x").await?;
            stream.read_u8().await
        };
        let patience = Duration::from_millis(200);
        matches!(timeout(patience, exchange).await, Ok(Ok(b'x')))
    }

    async fn start() -> Relay {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let target = listener.local_addr().unwrap().to_string();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                tokio::spawn(async move {
                    let (mut read, mut write) = stream.split();
                    tokio::io::copy(&mut read, &mut write).await
                });
            }
        });
        Relay::start("127.0.0.1:0", &target).await.unwrap()
    }

    #[tokio::test]
    async fn a_partition_holds_what_is_sent_until_it_is_healed() {
        let relay = start().await;
        let mut open = TcpStream::connect(relay.address()).await.unwrap();
        assert!(echoes(&mut open).await);
        relay.partition();
        let mut new = TcpStream::connect(relay.address()).await.unwrap();
        assert!(!echoes(&mut open).await && !echoes(&mut new).await);
        relay.heal();
        assert!(echoes(&mut open).await && echoes(&mut new).await);
    }

    #[tokio::test]
    async fn a_closed_connection_ends_and_new_ones_work() {
        let relay = start().await;
        let mut open = TcpStream::connect(relay.address()).await.unwrap();
        assert!(echoes(&mut open).await);
        relay.close();
        let end = timeout(Duration::from_secs(5), open.read_u8()).await;
        assert!(end.unwrap().is_err());
        let mut new = TcpStream::connect(relay.address()).await.unwrap();
        assert!(echoes(&mut new).await);
    }

    #[tokio::test]
    async fn a_frozen_connection_stays_silent_and_new_ones_work() {
        let relay = start().await;
        let mut open = TcpStream::connect(relay.address()).await.unwrap();
        assert!(echoes(&mut open).await);
        relay.freeze();
        assert!(!echoes(&mut open).await);
        let mut new = TcpStream::connect(relay.address()).await.unwrap();
        assert!(echoes(&mut new).await);
    }
}
