//! A load balancer for connections, as kube-proxy is one: a new connection goes to the next pod that is ready, and stays
//! with it.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use anyhow::{Context as _, Result};
use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream},
    task::JoinSet,
    time::sleep,
};

use crate::control_plane::page;

/// How often pods are probed. A kubelet takes longer, and pods wait longer for it.
const PERIOD: Duration = Duration::from_millis(100);

/// A pod behind the load balancer.
#[derive(Clone, Copy, Debug)]
pub struct Pod {
    /// Where its readiness is probed.
    pub health: &'static str,
    /// Its IP address.
    pub ip: &'static str,
}

/// A running load balancer. It stops when dropped.
#[derive(Debug)]
pub struct Balancer {
    _tasks: JoinSet<()>,
    ready: Arc<Mutex<Vec<&'static str>>>,
}

impl Balancer {
    /// Balances the connections to this address over these pods, on each of these ports.
    ///
    /// # Errors
    /// A port is taken.
    pub async fn start(ip: &str, ports: &[u16], pods: &'static [Pod]) -> Result<Self> {
        let ready = Arc::<Mutex<Vec<&'static str>>>::default();
        let mut tasks = JoinSet::new();
        tasks.spawn(probe(pods, ready.clone()));
        for port in ports.iter().copied() {
            let listener = TcpListener::bind((ip, port))
                .await
                .with_context(|| format!("cannot listen on {ip}:{port}"))?;
            tasks.spawn(balance(listener, port, ready.clone()));
        }
        Ok(Self {
            _tasks: tasks,
            ready,
        })
    }

    /// Pods that are ready.
    #[must_use]
    pub fn ready(&self) -> Vec<&'static str> {
        let ready = self.ready.lock().unwrap_or_else(PoisonError::into_inner);
        ready.clone()
    }
}

async fn probe(pods: &'static [Pod], ready: Arc<Mutex<Vec<&'static str>>>) {
    loop {
        let mut found = Vec::new();
        for pod in pods {
            if page(pod.health, "/ready").await.is_ok() {
                found.push(pod.ip);
            }
        }
        *ready.lock().unwrap_or_else(PoisonError::into_inner) = found;
        sleep(PERIOD).await;
    }
}

async fn balance(listener: TcpListener, port: u16, ready: Arc<Mutex<Vec<&'static str>>>) {
    let mut next = 0;
    while let Ok((mut near, _)) = listener.accept().await {
        next += 1;
        let pod = {
            let ready = ready.lock().unwrap_or_else(PoisonError::into_inner);
            ready.get(next % ready.len().max(1)).copied()
        };
        let Some(pod) = pod else { continue };
        tokio::spawn(async move {
            if let Ok(mut far) = TcpStream::connect((pod, port)).await {
                let _ = (near.set_nodelay(true), far.set_nodelay(true));
                let _ = copy_bidirectional(&mut near, &mut far).await;
            }
        });
    }
}
