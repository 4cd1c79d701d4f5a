//! What an Envoy rejects is replaced by what was served before, and what an older one lacks is left out: for every Envoy, by
//! every replica.

use anyhow::{Context as _, Result, ensure};
use nuncio_e2e::{
    backend::Backend,
    client::get,
    control_plane::NAMESPACE,
    gateway::{Envoy, Replica},
    wait::until,
};

use crate::{
    Space,
    fixture::{host, mapping},
    space::with_id,
    status::condition,
};

/// A Module whose script adds this header to responses, or fails.
fn module(space: &Space, script: &str) -> Result<String> {
    let module = format!(
        "apiVersion: getambassador.io/v3alpha1\nkind: Module\nmetadata: {{name: ambassador}}\nspec: {{config: {{lua_scripts: \"{script}\"}}}}\n"
    );
    with_id(&module, &space.gateway.instance.id)
}

fn adding(value: &str) -> String {
    format!("function envoy_on_response(h) h:headers():add('x-script', '{value}') end")
}

/// The script of this Envoy; it is in its filters.
async fn script(envoy: &Envoy) -> Result<String> {
    envoy.admin("/config_dump?resource=ecds_filters").await
}

/// Waits until Envoys have a script with this text.
async fn have_script(envoys: [&Envoy; 2], text: &str) -> Result<()> {
    for envoy in envoys {
        until(text, || async {
            let script = script(envoy).await?;
            ensure!(script.contains(text), "{script}");
            Ok(())
        })
        .await?;
    }
    Ok(())
}

/// Waits until the condition `Programmed` of the Module begins and goes on like this.
async fn module_says(space: &Space, start: &str, more: &str) -> Result<()> {
    let path =
        r#"{range .status.conditions[?(@.type=="Programmed")]}{.status} {.reason} {.message}{end}"#;
    until("the status of the Module", || async {
        let found = space.plane.field(NAMESPACE, "module/ambassador", path)?;
        ensure!(
            found.starts_with(start) && found.contains(more),
            "it is {found:?}"
        );
        Ok(())
    })
    .await
}

pub(crate) async fn a_rejected_script_leaves_the_one_before_for_every_envoy(
    space: &mut Space,
) -> Result<()> {
    let instance = space.gateway.instance.clone();
    let apply = |space: &Space, script: &str| -> Result<()> {
        space.plane.apply(NAMESPACE, &module(space, script)?)
    };
    let _backend = Backend::start("10.96.6.9:80", "one").await?;
    let manifests = [
        host("script", "script.example", ""),
        mapping("script", "script.example", "/", "10.96.6.9", ""),
    ];
    space.apply(&manifests.concat())?;
    // two replicas, each with an Envoy
    let second = Replica::start(&space.plane, &instance, 1).await?;
    let (name, xds, admin) = (
        instance.name("envoy", 1),
        instance.xds(1),
        instance.admin(1),
    );
    let mut other = Envoy::start(&name, &xds, &admin, "sotw")?;
    other.ready().await?;
    apply(space, &adding("first"))?;
    have_script([&space.gateway.envoy, &other], "first").await?;
    space.answers("script.example", "/", 200, "one").await?;

    apply(space, "x.y()")?;
    let rejected = "False Rejected Envoy rejected the update and keeps the previous one";
    module_says(space, rejected, "attempt to index global 'x'").await?;

    // an Envoy that has nothing yet gets the first script, from either replica
    space.own_gateway()?.envoy.restart()?;
    other.restart()?;
    for envoy in [&space.gateway.envoy, &other] {
        envoy.ready().await?;
    }
    have_script([&space.gateway.envoy, &other], "first").await?;
    for envoy in [&space.gateway.envoy, &other] {
        let rejected = envoy.statistic("update_rejected").await?;
        ensure!(rejected == 0, "it got the second one");
    }
    until("two equal Envoys", || async {
        let (one, two) = (
            space.gateway.envoy.configuration().await?,
            other.configuration().await?,
        );
        ensure!(one == two, "{one:?}\n{two:?}");
        Ok(())
    })
    .await?;
    for replica in [&space.gateway.replica, &second] {
        until("the quarantine of every replica", || async {
            let quarantined = replica.metric("nuncio_quarantined_resources").await?;
            ensure!((quarantined - 1.0).abs() < 0.1, "{quarantined}");
            Ok(())
        })
        .await?;
    }
    // other changes go on
    let later = mapping("later", "script.example", "/later/", "10.96.6.9", "");
    space.apply(&later)?;
    space
        .answers("script.example", "/later/", 200, "one")
        .await?;
    let answer = get(&space.http(), "script.example", "/later/").await?;
    let header = answer.headers.get("x-script").context("no script runs")?;
    ensure!(header == "first", "{header:?}");

    // a repair ends it
    apply(space, &adding("next"))?;
    have_script([&space.gateway.envoy, &other], "next").await?;
    module_says(space, "True", "").await
}

/// A script that an Envoy with this text in its command line rejects.
fn rejected_by(text: &str, value: &str) -> String {
    let line = "io.open('/proc/self/cmdline'):read('*a')";
    format!(
        "if {line}:find('{text}') then error('not here') end {}",
        adding(value)
    )
}

pub(crate) async fn an_envoy_of_another_replica_rejects_for_all(space: &mut Space) -> Result<()> {
    let instance = space.gateway.instance.clone();
    let apply = |space: &Space, script: &str| -> Result<()> {
        space.plane.apply(NAMESPACE, &module(space, script)?)
    };
    let second = Replica::start(&space.plane, &instance, 1).await?;
    let (name, xds, admin) = (
        instance.name("envoy", 1),
        instance.xds(1),
        instance.admin(1),
    );
    let other = Envoy::start_with_flags(&name, &xds, &admin, &["--service-zone", "elsewhere"])?;
    other.ready().await?;
    space.apply(&host("script", "script.example", ""))?;
    apply(space, &adding("first"))?;
    have_script([&space.gateway.envoy, &other], "first").await?;

    apply(space, &rejected_by("elsewhere", "second"))?;
    module_says(space, "False Rejected", "not here").await?;
    // which one answers is up to the kernel; Envoy's dump has what it rejected
    until("the first script in both", || async {
        for _ in 0..20 {
            let answer = get(&space.http(), "script.example", "/").await?;
            let header = answer.headers.get("x-script").context("no script runs")?;
            ensure!(header == "first", "{header:?}");
        }
        Ok(())
    })
    .await?;
    for replica in [&space.gateway.replica, &second] {
        until("the quarantine of every replica", || async {
            let quarantined = replica.metric("nuncio_quarantined_resources").await?;
            ensure!((quarantined - 1.0).abs() < 0.1, "{quarantined}");
            Ok(())
        })
        .await?;
    }
    apply(space, &rejected_by("nowhere", "third"))?;
    have_script([&space.gateway.envoy, &other], "third").await?;
    module_says(space, "True", "").await
}

pub(crate) async fn what_an_older_envoy_of_another_replica_lacks_is_left_out(
    space: &mut Space,
) -> Result<()> {
    let _backend = Backend::start("10.96.6.10:80", "one").await?;
    let instance = space.gateway.instance.clone();
    let second = Replica::start(&space.plane, &instance, 1).await?;
    let (name, xds, admin) = (
        instance.name("envoy", 1),
        instance.xds(1),
        instance.admin(1),
    );
    let older = Envoy::start_older(&name, &xds, &admin)?;
    older.ready().await?;
    let adding = |value: &str| {
        let headers = format!("{{x-listener: {{value: '{value}'}}, x-other: {{value: other}}}}");
        let more = format!(", add_response_headers: {headers}");
        mapping("older", "older.example", "/", "10.96.6.10", &more)
    };
    let tables = async |envoy: &Envoy| -> Result<String> {
        let mut configuration = envoy.configuration().await?;
        let tables = configuration.remove("dynamic_route_configs");
        Ok(tables.unwrap_or_default().join("\n"))
    };
    let both_have = async |older: &Envoy, value: &str| -> Result<()> {
        until(value, || async {
            let (one, two) = (tables(&space.gateway.envoy).await?, tables(older).await?);
            ensure!(one.contains(value), "{one}");
            ensure!(one == two, "{one}\n{two}");
            Ok(())
        })
        .await
    };
    space.apply(&host("older", "older.example", ""))?;
    space.apply(&adding("first"))?;
    both_have(&older, "first").await?;

    // Envoy 1.40 knows it, the one before does not
    space.apply(&adding("%LISTENER_NAME%"))?;
    until("what both know", || async {
        let (one, two) = (tables(&space.gateway.envoy).await?, tables(&older).await?);
        ensure!(one == two, "{one}\n{two}");
        ensure!(
            !one.contains("first") && !one.contains("x-listener"),
            "{one}"
        );
        ensure!(one.contains("x-other"), "{one}");
        Ok(())
    })
    .await?;
    let said = "%LISTENER_NAME% needs Envoy 1.40, and an older one is connected";
    condition(space, "mapping/older", "Accepted", "True", said).await?;
    condition(space, "mapping/older", "Programmed", "True", "").await?;
    space.answers("older.example", "/", 200, "one").await?;
    for replica in [&second, &space.gateway.replica] {
        let quarantined = replica.metric("nuncio_quarantined_resources").await?;
        ensure!(quarantined < 0.5, "{quarantined}");
    }

    space.apply(&adding("second"))?;
    both_have(&older, "second").await?;
    condition(space, "mapping/older", "Programmed", "True", "").await
}
