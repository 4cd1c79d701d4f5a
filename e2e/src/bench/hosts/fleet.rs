//! Many Hosts, each with a Secret, a certificate and a Mapping of its own, and clients that see them change.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Result, ensure};
use kube::{
    Api, Client,
    api::{DeleteParams, DynamicObject, Patch, PatchParams},
};
use rustls::{ClientConfig, client::Resumption};
use serde_json::{Value, json};

use crate::{
    bench::{latencies::Latencies, layout::hostname, object, rig::HTTPS},
    certificate::{Authority, Certificate},
    client::{Answer, Connection, tls_config},
};

/// How many names are asked after a load.
const SAMPLE: usize = 200;
/// Longest wait for a load or a change to reach traffic.
const PATIENCE: Duration = Duration::from_secs(900);
/// Pause between two handshakes.
const PAUSE: Duration = Duration::from_micros(300);

pub(super) struct Fleet {
    secrets: Api<DynamicObject>,
    mappings: Api<DynamicObject>,
    hosts: Api<DynamicObject>,
    size: usize,
    /// How many certificates the Hosts share; 0: each has its own.
    certificates: usize,
    authority: Authority,
    tls: Arc<ClientConfig>,
}

impl Fleet {
    pub(super) fn new(client: &Client, size: usize, certificates: usize) -> Result<Self> {
        let authority = Authority::new()?;
        let mut tls = tls_config(&authority.der(), None)?;
        // a session that is resumed shows the certificate of its beginning
        tls.resumption = Resumption::disabled();
        Ok(Self {
            secrets: object::secrets(client),
            mappings: object::kind(client, "Mapping", "mappings"),
            hosts: object::kind(client, "Host", "hosts"),
            size,
            certificates,
            authority,
            tls: tls.into(),
        })
    }

    /// Creates all; the time from the last creation until a sample of names answers.
    pub(super) async fn load(&self) -> Result<Duration> {
        for shared in 0..self.certificates {
            let secret = secret(&self.secret_of(shared), &self.certificate(shared)?);
            object::create(&self.secrets, secret).await?;
        }
        object::for_each(0..self.size, |number| self.create(number)).await?;
        let start = Instant::now();
        // newest first, so that what came last is waited for
        for number in (0..self.size).rev().step_by(self.size.div_ceil(SAMPLE)) {
            self.wait(number, is_good).await?;
        }
        Ok(start.elapsed())
    }

    /// Creates Hosts one after the other, until each answers.
    pub(super) async fn adds(&self, count: usize) -> Result<Latencies> {
        let mut times = Latencies::default();
        for number in self.size..self.size + count {
            let sent = Instant::now();
            self.create(number).await?;
            let answered = Instant::now();
            self.wait(number, is_good).await?;
            times.add(sent.elapsed(), answered.elapsed());
        }
        Ok(times)
    }

    /// Changes certificates one after the other, until each is shown.
    pub(super) async fn rotations(&self, count: usize) -> Result<Latencies> {
        let mut times = Latencies::default();
        for round in 0..count {
            let number = (round * 7919) % self.size;
            let certificate = self.certificate(number)?;
            let shown = Some(certificate.der()?);
            let name = self.secret_of(number);
            let secret = Patch::Merge(secret(&name, &certificate));
            let sent = Instant::now();
            self.secrets
                .patch(&name, &PatchParams::default(), &secret)
                .await?;
            let answered = Instant::now();
            self.wait(number, |answer| {
                answer
                    .as_ref()
                    .is_ok_and(|answer| answer.certificate == shown)
            })
            .await?;
            times.add(sent.elapsed(), answered.elapsed());
        }
        Ok(times)
    }

    /// Deletes the Hosts that were added one after the other, until each name is closed. Their Mappings and Secrets follow.
    pub(super) async fn deletes(&self, count: usize) -> Result<Latencies> {
        let mut times = Latencies::default();
        for number in self.size..self.size + count {
            let (name, params) = (name(number), DeleteParams::default());
            let sent = Instant::now();
            self.hosts.delete(&name, &params).await?;
            let answered = Instant::now();
            self.wait(number, is_closed).await?;
            times.add(sent.elapsed(), answered.elapsed());
            self.mappings.delete(&name, &params).await?;
            if self.certificates == 0 {
                self.secrets.delete(&name, &params).await?;
            }
        }
        Ok(times)
    }

    fn hostname(&self, number: usize) -> String {
        match self.certificates {
            0 => hostname(number),
            // clients accept no wildcard for a top-level domain
            _ => format!("host-{number}.shared.example"),
        }
    }

    /// Name of the Secret of a Host.
    fn secret_of(&self, number: usize) -> String {
        match self.certificates {
            0 => name(number),
            shared => format!("shared-{}", number % shared),
        }
    }

    /// A new certificate for a Host, and for all that share it.
    fn certificate(&self, number: usize) -> Result<Certificate> {
        match self.certificates {
            0 => self.authority.issue(&[&self.hostname(number)]),
            _ => self.authority.issue(&["*.shared.example"]),
        }
    }

    async fn create(&self, number: usize) -> Result<()> {
        let (name, hostname) = (name(number), self.hostname(number));
        let secret_name = self.secret_of(number);
        if self.certificates == 0 {
            let secret = secret(&secret_name, &self.certificate(number)?);
            object::create(&self.secrets, secret).await?;
        }
        let mapping = json!({
            "apiVersion": "getambassador.io/v3alpha1",
            "kind": "Mapping",
            "metadata": {"name": name},
            "spec": {"hostname": hostname, "prefix": "/", "service": "one"}
        });
        object::create(&self.mappings, mapping).await?;
        let host = json!({
            "apiVersion": "getambassador.io/v3alpha1",
            "kind": "Host",
            "metadata": {"name": name},
            "spec": {"hostname": hostname, "tlsSecret": {"name": secret_name}}
        });
        object::create(&self.hosts, host).await
    }

    /// Asks a name until what comes of it is right.
    async fn wait(&self, number: usize, is_right: impl Fn(&Result<Answer>) -> bool) -> Result<()> {
        let start = Instant::now();
        loop {
            let answer = self.ask(number).await;
            if is_right(&answer) {
                return Ok(());
            }
            ensure!(
                start.elapsed() < PATIENCE,
                "{} answers {answer:?}",
                self.hostname(number)
            );
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// A request with a handshake of its own.
    async fn ask(&self, number: usize) -> Result<Answer> {
        let name = self.hostname(number);
        let mut connection = Connection::open_tls(HTTPS, &name, self.tls.clone()).await?;
        let mut answer = connection.get(&name, "/").await?;
        answer.certificate = connection.certificate();
        Ok(answer)
    }
}

fn is_good(answer: &Result<Answer>) -> bool {
    answer.as_ref().is_ok_and(|answer| answer.status == 200)
}

/// There is no certificate for the name any more, or no route.
fn is_closed(answer: &Result<Answer>) -> bool {
    answer.as_ref().map_or(true, |answer| answer.status == 404)
}

/// The name of a Host and of what belongs to it.
fn name(number: usize) -> String {
    format!("host-{number}")
}

fn secret(name: &str, certificate: &Certificate) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": name},
        "type": "kubernetes.io/tls",
        "stringData": {"tls.crt": certificate.chain, "tls.key": certificate.key}
    })
}
