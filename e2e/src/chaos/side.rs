//! A replica with its Envoy, and the network around them. Each side has an address of its own.

use std::{fs, net::Ipv4Addr, path::PathBuf};

use anyhow::Result;

use super::fault::Side as Number;
use crate::{
    control_plane::{APISERVER, ControlPlane},
    fault_proxy::FaultProxy,
    gateway::{Envoy, Replica},
    instance::Instance,
    relay::Relay,
};

/// Envoy keeps tables and Secrets of a listener that drains. By default it would do so for ten minutes.
const DRAIN: &[&str] = &["--drain-time-s", "10"];

pub(super) struct Side {
    pub(super) number: Number,
    pub(super) instance: Instance,
    /// How the replica finds the apiserver: through the network and the proxy.
    kubeconfig: PathBuf,
    pub(super) replica: Replica,
    pub(super) envoy: Envoy,
    /// Between the replica and the proxy.
    pub(super) network: Relay,
    /// Between the network and the apiserver.
    pub(super) proxy: FaultProxy,
    /// Between the Envoy and the replica.
    pub(super) xds: Relay,
}

impl Side {
    pub(super) async fn start(plane: &ControlPlane, number: Number) -> Result<Self> {
        let last = u8::try_from(number)? + 1;
        let instance = Instance {
            address: Ipv4Addr::new(127, 0, last, 1),
            ..Instance::default()
        };
        let network = Relay::start(&instance.port(6444), &instance.port(6445)).await?;
        let proxy = FaultProxy::start(&instance.port(6445), APISERVER).await?;
        let text = fs::read_to_string(plane.operator_kubeconfig())?;
        let kubeconfig = plane
            .operator_kubeconfig()
            .with_extension(number.to_string());
        fs::write(&kubeconfig, text.replace(APISERVER, network.address()))?;
        let replica = u16::try_from(number)?;
        let mut started = Replica::launch(&kubeconfig, &instance, replica)?;
        started.ready().await?;
        let xds = Relay::start(&instance.port(8004), &instance.xds(replica)).await?;
        let envoy = Envoy::start_with_flags(
            &instance.name("envoy", replica),
            xds.address(),
            &instance.admin(replica),
            DRAIN,
        )?;
        envoy.ready().await?;
        Ok(Self {
            number,
            instance,
            kubeconfig,
            replica: started,
            envoy,
            network,
            proxy,
            xds,
        })
    }

    /// Starts the replica again, and does not wait until it is ready.
    pub(super) fn restart_replica(&mut self) -> Result<()> {
        self.replica.process.kill();
        let number = u16::try_from(self.number)?;
        self.replica = Replica::launch(&self.kubeconfig, &self.instance, number)?;
        Ok(())
    }
}
