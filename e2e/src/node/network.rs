//! The pod network: a bridge in the sandbox, and a network namespace per Pod that is connected to it.

use std::{
    net::Ipv4Addr,
    path::{Path, PathBuf},
    sync::atomic::{AtomicU16, Ordering},
};

use anyhow::{Context as _, Result};

use super::command::run;

/// Address of the node: where Pods with `hostNetwork` listen, and the gateway of all others.
pub(super) const NODE: Ipv4Addr = Ipv4Addr::new(10, 244, 0, 1);
const BRIDGE: &str = "pods";
/// Without an address of its own, a bridge takes the lowest of its links, which is another one when Pods come and go: Pods
/// that know the one before reach nothing until they ask again, up to a minute later.
const BRIDGE_MAC: &str = "02:00:0a:f4:00:01";

/// The pod network of a node.
pub(super) struct Network {
    folder: PathBuf,
    next: AtomicU16,
}

/// The network of one Pod.
#[derive(Debug)]
pub(super) struct PodNetwork {
    /// Its address.
    pub(super) address: Ipv4Addr,
    /// The file that is its network namespace; none for that of the node.
    pub(super) namespace: Option<PathBuf>,
    link: String,
}

impl Network {
    /// Connects this network namespace to the addresses of pods.
    pub(super) async fn create(folder: &Path) -> Result<Self> {
        let commands = format!(
            "route del local 10.244.0.0/16 dev lo\n\
             link add {BRIDGE} address {BRIDGE_MAC} type bridge\n\
             addr add {NODE}/16 dev {BRIDGE}\n\
             link set {BRIDGE} up\n"
        );
        run("ip", &["-batch", "-"], &commands)
            .await
            .context("cannot make the pod network; run the tests as root")?;
        let folder = folder.join("networks");
        std::fs::create_dir(&folder)?;
        Ok(Self {
            folder,
            next: AtomicU16::new(0),
        })
    }

    /// The network of a Pod that shares that of the node.
    pub(super) fn host(&self) -> PodNetwork {
        PodNetwork {
            address: NODE,
            namespace: None,
            link: String::new(),
        }
    }

    /// A network for a Pod, with an address that no other Pod has had.
    pub(super) async fn pod(&self) -> Result<PodNetwork> {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let [high, low] = [number / 250, number % 250];
        let (high, low) = (u8::try_from(high + 1)?, u8::try_from(low + 1)?);
        let network = PodNetwork {
            address: Ipv4Addr::new(10, 244, high, low),
            namespace: Some(self.folder.join(number.to_string())),
            link: format!("pod{number}"),
        };
        network.create().await?;
        Ok(network)
    }
}

impl PodNetwork {
    async fn create(&self) -> Result<()> {
        let (Some(file), link) = (&self.namespace, &self.link) else {
            return Ok(());
        };
        std::fs::write(file, "")?;
        let path = file.display();
        let namespace = format!("--net={path}");
        run(
            "unshare",
            &[&namespace, "ip", "link", "set", "lo", "up"],
            "",
        )
        .await?;
        let commands = format!(
            "link add {link} type veth peer name eth0 netns {path}\n\
             link set {link} master {BRIDGE} up\n"
        );
        run("ip", &["-batch", "-"], &commands).await?;
        let commands = format!(
            "addr add {}/16 dev eth0\nlink set eth0 up\nroute add default via {NODE}\n",
            self.address
        );
        run("nsenter", &[&namespace, "ip", "-batch", "-"], &commands).await
    }

    /// Removes it.
    pub(super) async fn remove(&self) {
        let Some(file) = &self.namespace else {
            return;
        };
        // the kernel removes what is left with the sandbox
        let _ = run("ip", &["link", "del", &self.link], "").await;
        let _ = run("umount", &[&file.display().to_string()], "").await;
        let _ = std::fs::remove_file(file);
    }
}
