//! A thousand Hosts, each with its own certificate; some are created, deleted and changed while others are in use.

use std::{thread, time::Duration};

use anyhow::{Context as _, Result, anyhow, bail, ensure};
use nuncio_e2e::{
    backend::Backend,
    certificate::{Authority, Certificate},
    client::{Load, open_tls, tls_config},
    wait::until,
};
use rustls::pki_types::CertificateDer;

use crate::{
    Space,
    space::{self, Gateway},
};

/// ID of its own instance, which starts after the Hosts have been applied.
const ID: &str = "many";
const HOSTS: usize = 1_000;
const ROUNDS: usize = 6;
/// Number of Hosts that are created, deleted, and given another certificate in each round.
const EACH: usize = 5;
/// Most CPU time that a round may take of Nuncio and of Envoy's main thread. Unlike the time that clients wait for, it does
/// not depend on what else the machine does.
const BOUND: Duration = Duration::from_secs(8);

/// The Hosts and their authority; all certificates have one key.
struct Many {
    namespace: String,
    address: String,
    authority: Authority,
    key: Certificate,
}

impl Many {
    fn new(namespace: &str, address: &str) -> Result<Self> {
        let authority = Authority::new()?;
        let key = authority.issue(&["key"])?;
        Ok(Self {
            namespace: namespace.to_owned(),
            address: address.to_owned(),
            authority,
            key,
        })
    }

    fn certificate(&self, number: usize) -> Result<Certificate> {
        self.authority.issue_for(&[&hostname(number)], &self.key)
    }

    /// A Host with its Mapping and its Secret.
    fn host(&self, number: usize) -> Result<String> {
        let (name, hostname) = (name(number), hostname(number));
        let spec = format!("hostname: {hostname}, tlsSecret: {{name: {name}}}");
        Ok([
            self.certificate(number)?.secret(&self.namespace, &name),
            object("Host", &name, &spec),
            object(
                "Mapping",
                &name,
                &format!("hostname: {hostname}, prefix: /, service: 10.96.54.1"),
            ),
        ]
        .concat())
    }

    /// Waits until a Host is served, with this certificate if one is given.
    async fn serves(&self, number: usize, certificate: Option<&CertificateDer<'_>>) -> Result<()> {
        let hostname = hostname(number);
        until(&hostname, || async {
            let mut connection = open_tls(&self.address, &hostname, &self.authority.der()).await?;
            let shown = connection.certificate();
            ensure!(
                certificate.is_none() || shown.as_ref() == certificate,
                "another certificate is presented"
            );
            let answer = connection.get(&hostname, "/").await?;
            ensure!(answer.status == 200, "{answer:?}");
            Ok(())
        })
        .await
    }
}

fn name(number: usize) -> String {
    format!("host-{number}")
}

fn hostname(number: usize) -> String {
    format!("{}.many.example", name(number))
}

fn object(kind: &str, name: &str, spec: &str) -> String {
    format!(
        "apiVersion: getambassador.io/v3alpha1\nkind: {kind}\nmetadata: {{name: {name}}}\nspec: {{ambassador_id: [{ID}], {spec}}}\n---\n"
    )
}

pub(crate) async fn hosts_come_and_go_among_a_thousand(space: &Space) -> Result<()> {
    let _backend = Backend::start("10.96.54.1:80", "many").await?;
    let instance = space::instance(ID);
    let many = Many::new(&space.namespace, &instance.port(9170))?;
    apply_all(space, &many)?;
    let gateway = Gateway::start(&space.plane, instance).await?;
    many.serves(HOSTS - 1, None).await?;
    let config = tls_config(&many.authority.der(), None)?;
    // the first whose certificate changes, and two that stay as they are
    let kept = [EACH * ROUNDS, HOSTS / 2, HOSTS - 1];
    let kept =
        kept.map(|number| Load::start_tls(&many.address, &hostname(number), "/", config.clone()));
    let new = [EACH * ROUNDS, HOSTS - 2];
    let new = new.map(|number| {
        Load::start_handshakes(&many.address, &hostname(number), "/", config.clone())
    });
    for round in 0..ROUNDS {
        let before = cpu(&gateway);
        come_and_go(space, &many, round).await?;
        let took = cpu(&gateway).saturating_sub(before);
        ensure!(took < BOUND, "round {round} took {took:?} of CPU time");
    }
    for load in kept {
        let sent = load.finish().await.context("kept connections")?;
        ensure!(
            sent.connections == 1,
            "{sent:?}: changes of other Hosts close connections"
        );
    }
    for load in new {
        load.finish().await.context("new connections")?;
    }
    Ok(())
}

/// CPU time so far of Nuncio and of the thread of Envoy that handles configuration.
fn cpu(gateway: &Gateway) -> Duration {
    let nuncio = gateway.replica.process.cpu_seconds();
    let envoy = gateway.envoy.process.main_thread_cpu_seconds();
    Duration::from_secs_f64(nuncio + envoy)
}

/// Applies them all, by few calls at once.
fn apply_all(space: &Space, many: &Many) -> Result<()> {
    let listener =
        "port: 9170, protocol: HTTPS, securityModel: XFP, hostBinding: {namespace: {from: SELF}}";
    space.apply(&object("Listener", "many", listener))?;
    let manifests: Result<Vec<String>> = (0..HOSTS).map(|number| many.host(number)).collect();
    let manifests = manifests?;
    thread::scope(|scope| {
        let calls: Vec<_> = manifests
            .chunks(HOSTS / 4)
            .map(|part| scope.spawn(|| space.apply(&part.concat())))
            .collect();
        calls
            .into_iter()
            .try_for_each(|call| call.join().map_err(|_panic| anyhow!("a call panicked"))?)
    })
}

/// Creates, deletes and changes Hosts, and waits until clients see it.
async fn come_and_go(space: &Space, many: &Many, round: usize) -> Result<()> {
    let part = |first: usize| (first + round * EACH)..(first + (round + 1) * EACH);
    let (coming, going, changing) = (part(HOSTS), part(0), part(EACH * ROUNDS));
    let mut manifests = Vec::new();
    for number in coming.clone() {
        manifests.push(many.host(number)?);
    }
    let mut next = Vec::new();
    for number in changing {
        let certificate = many.certificate(number)?;
        manifests.push(certificate.secret(&many.namespace, &name(number)));
        next.push((number, certificate.der()?));
    }
    space.apply(&manifests.concat())?;
    let names: Vec<String> = going
        .clone()
        .map(|number| format!("host/{}", name(number)))
        .collect();
    let mut arguments = vec!["delete", "-n", &many.namespace, "--wait=false"];
    arguments.extend(names.iter().map(String::as_str));
    space.plane.kubectl(&arguments, "")?;
    for (number, certificate) in &next {
        many.serves(*number, Some(certificate)).await?;
    }
    for number in coming {
        many.serves(number, None).await?;
    }
    for number in going {
        let hostname = hostname(number);
        until("a deleted Host to be closed", || async {
            match open_tls(&many.address, &hostname, &many.authority.der()).await {
                Ok(_open) => bail!("{hostname} is still served"),
                Err(_closed) => Ok(()),
            }
        })
        .await?;
    }
    Ok(())
}
