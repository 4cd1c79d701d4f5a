//! Statuses of many objects: what they cost the apiserver, and what happens when it takes fewer.

use std::{fs, time::Duration};

use anyhow::{Result, ensure};
use nuncio_e2e::{
    backend::Backend,
    control_plane::APISERVER,
    fault_proxy::{Fault, FaultProxy, RETRY_AFTER, Reply, Scope, StatusWrites},
    gateway::Replica,
    wait::until,
};
use tokio::time::{Instant, sleep};

use crate::{
    Space,
    fixture::{host, mapping},
    status::{condition, programmed},
};

/// Mappings of a test.
const MANY: usize = 200;

/// Starts the replica again, behind a proxy.
async fn behind_a_proxy(space: &mut Space) -> Result<FaultProxy> {
    let instance = space.gateway.instance.clone();
    let proxy = FaultProxy::start(&instance.port(6445), APISERVER).await?;
    let operator = space.plane.operator_kubeconfig();
    let kubeconfig = operator.with_extension(&space.namespace);
    let text = fs::read_to_string(&operator)?;
    fs::write(&kubeconfig, text.replace(APISERVER, &instance.port(6445)))?;
    let gateway = space.own_gateway()?;
    gateway.replica.process.kill();
    gateway.replica = Replica::launch(&kubeconfig, &instance, 0)?;
    gateway.replica.ready().await?;
    Ok(proxy)
}

fn many(hostname: &str) -> String {
    let mappings = (0..MANY).map(|number| {
        let (name, prefix) = (format!("many-{number}"), format!("/{number}/"));
        mapping(&name, hostname, &prefix, "10.96.5.1", "")
    });
    mappings.collect()
}

/// Waits until no status is waiting to be written.
async fn written(space: &Space) -> Result<()> {
    until("the last status", || async {
        let replica = &space.gateway.replica;
        let leads = replica.metric("nuncio_leader").await?;
        let pending = replica.metric("nuncio_status_pending").await?;
        ensure!(
            leads > 0.5 && pending < 0.5,
            "{pending} statuses are pending"
        );
        Ok(())
    })
    .await?;
    for number in 0..MANY {
        programmed(space, &format!("mapping/many-{number}")).await?;
    }
    Ok(())
}

pub(crate) async fn a_status_takes_one_short_request(space: &mut Space) -> Result<()> {
    let proxy = behind_a_proxy(space).await?;
    space.apply(&host("many", "many.example", ""))?;
    programmed(space, "host/many").await?;
    let before = proxy.status_writes()?;
    space.apply(&many("many.example"))?;
    written(space).await?;
    let after = proxy.status_writes()?;
    let [requests, sent, received] = [
        after.requests - before.requests,
        after.sent - before.sent,
        after.received - before.received,
    ];
    eprintln!("{MANY} Mappings: {requests} requests, {sent} bytes sent, {received} received");
    let many = MANY as u64;
    // of some objects the first status is Pending
    ensure!(requests <= many * 5 / 4, "{requests} requests");
    ensure!(
        sent <= requests * 1000,
        "{sent} bytes in {requests} requests"
    );
    ensure!(
        received > 0 && received <= requests * 3000,
        "{received} bytes in {requests} answers"
    );
    sleep(Duration::from_secs(1)).await;
    ensure!(
        proxy.status_writes()? == after,
        "statuses are written although nothing has changed"
    );
    Ok(())
}

pub(crate) async fn what_the_apiserver_asks_for_is_waited_for_and_all_else_goes_on(
    space: &mut Space,
) -> Result<()> {
    let proxy = behind_a_proxy(space).await?;
    let _backend = Backend::start("10.96.12.1:80", "throttled").await?;
    space.apply(&host("many", "many.example", ""))?;
    programmed(space, "host/many").await?;
    let writes = || -> Result<StatusWrites> { proxy.status_writes() };
    let before = writes()?;
    proxy.begin(Fault {
        scope: Scope::Status,
        reply: Reply::Throttled,
    });
    space.apply(&many("many.example"))?;
    let start = Instant::now();
    until("a write that is throttled", || async {
        ensure!(proxy.met() > 0, "there was none");
        Ok(())
    })
    .await?;
    // routes, watches and Leases do not wait for statuses
    let edited = |number: usize| {
        let prefix = format!("/throttled/{number}/");
        let mapping = mapping("edited", "many.example", &prefix, "10.96.12.1", "");
        (prefix, mapping)
    };
    for number in 0..3 {
        let (prefix, manifest) = edited(number);
        let change = Instant::now();
        space.apply(&manifest)?;
        space
            .answers("many.example", &prefix, 200, "throttled")
            .await?;
        let took = change.elapsed();
        ensure!(took < Duration::from_secs(3), "a change took {took:?}");
        sleep(Duration::from_secs(RETRY_AFTER)).await;
    }
    let leads = space.gateway.replica.metric("nuncio_leader").await?;
    ensure!(leads > 0.5, "the replica does not lead any more");
    // those that were under way, then one after each pause
    let most = 8 + start.elapsed().as_secs() / RETRY_AFTER;
    let met = proxy.met();
    ensure!(met <= most, "{met} writes in {:?}", start.elapsed());
    ensure!(writes()? == before, "a write was passed on");
    proxy.end();
    written(space).await?;
    programmed(space, "mapping/edited").await?;
    condition(space, "mapping/edited", "Programmed", "True", "1/1 Envoys").await
}
