//! Part `churn`: memory of the control plane and of Envoy while objects change for a long time.

use std::time::{Duration, Instant};

use anyhow::Result;
use kube::{
    Api,
    api::{DeleteParams, DynamicObject, Patch, PatchParams},
};
use serde_json::{Value, json};
use tokio::time::{MissedTickBehavior, interval};

use crate::{certificate::Authority, process::Process};

use super::{
    cost::settle,
    layout::{Layout, hostname},
    object,
    options::Options,
    rig::Rig,
    table,
};

/// Time between two rows.
const MINUTE: Duration = Duration::from_secs(60);
/// Number of Mappings that come and go.
const PASSING: usize = 100;

/// Changes objects for the requested time.
pub(super) async fn run(options: &Options) -> Result<()> {
    let layout = options.layout.unwrap_or(Layout::Tls);
    for size in options.sizes(&[1_000]) {
        measure(options, layout, size).await?;
    }
    Ok(())
}

#[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
async fn measure(options: &Options, layout: Layout, size: usize) -> Result<()> {
    let authority = Authority::new()?;
    let rig = Rig::start(&layout.manifests(&authority)?).await?;
    let churn = Churn {
        mappings: object::kind(&rig.client, "Mapping", "mappings"),
        secrets: object::secrets(&rig.client),
        layout,
        size,
        authority,
    };
    object::for_each(0..size, |number| {
        object::create(&churn.mappings, churn.mapping(number, 0))
    })
    .await?;
    settle(&rig.replica).await?;
    table::head(
        &format!(
            "Churn: {size} Mappings, {}, {} changes a second if the apiserver is as fast. Mappings are edited, added and \
             deleted, and certificates rotate. Memory is resident (proportional), in MiB; the last row is the slope of a line \
             through the second half of the rows, in MiB per hour.",
            layout.name(),
            options.churn_rate(),
        ),
        &["minute", "changes", "memory", "memory of Envoy"],
        &[],
    );
    let mut ticks = interval(Duration::from_secs(1) / options.churn_rate());
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let (start, mut changes) = (Instant::now(), 0);
    let mut samples = Vec::new();
    let mut minute = 0;
    loop {
        if start.elapsed() >= MINUTE * minute {
            let sample = Sample::of(f64::from(minute) / 60.0, &rig);
            table::row(&sample.row(minute, changes));
            samples.push(sample);
            if minute >= options.minutes {
                break;
            }
            minute += 1;
        }
        ticks.tick().await;
        churn.change(changes).await?;
        changes += 1;
    }
    let later = &samples[samples.len() / 2..];
    let slope = |of: fn(&Memory) -> f64, whose: fn(&Sample) -> &Memory| {
        let points: Vec<(f64, f64)> = later
            .iter()
            .map(|sample| (sample.hours, of(whose(sample))))
            .collect();
        self::slope(&points)
    };
    let both = |whose: fn(&Sample) -> &Memory| {
        let resident = slope(|memory| memory.resident, whose);
        let proportional = slope(|memory| memory.proportional, whose);
        format!("{resident:+.1} ({proportional:+.1})")
    };
    let per_hour = changes as f64 / start.elapsed().as_secs_f64() * 3600.0;
    table::row(&[
        "per hour".to_owned(),
        format!("{per_hour:.0}"),
        both(|sample| &sample.control_plane),
        both(|sample| &sample.envoy),
    ]);
    Ok(())
}

/// What changes.
struct Churn {
    mappings: Api<DynamicObject>,
    secrets: Api<DynamicObject>,
    layout: Layout,
    size: usize,
    authority: Authority,
}

impl Churn {
    fn mapping(&self, number: usize, edit: usize) -> Value {
        json!({
            "apiVersion": "getambassador.io/v3alpha1",
            "kind": "Mapping",
            "metadata": {"name": format!("m-{number}")},
            "spec": {
                "hostname": hostname(number % self.layout.hosts()),
                "prefix": format!("/m-{number}/"),
                "service": "one",
                "rewrite": format!("/edit-{edit}/"),
                "cluster_tag": format!("m{}", number % 500)
            }
        })
    }

    /// The change with this number. Of ten, six edit a Mapping, two add one, and one deletes one and rotates a certificate each;
    /// what is added twice is edited.
    async fn change(&self, number: usize) -> Result<()> {
        let passing = self.size + number / 10 % PASSING;
        match number % 10 {
            3 => {
                let params = PatchParams::apply("bench").force();
                let object = Patch::Apply(self.mapping(passing, number));
                self.mappings
                    .patch(&format!("m-{passing}"), &params, &object)
                    .await?;
            }
            7 => {
                let (name, params) = (format!("m-{passing}"), DeleteParams::default());
                self.mappings.delete(&name, &params).await?;
            }
            9 if self.layout == Layout::Tls => {
                let host = number / 10 % self.layout.hosts();
                let own = self.authority.issue(&[&hostname(host)])?;
                let patch = json!({"stringData": {"tls.crt": own.chain, "tls.key": own.key}});
                let (name, params) = (format!("host-{host}"), PatchParams::default());
                self.secrets
                    .patch(&name, &params, &Patch::Merge(patch))
                    .await?;
            }
            _ => {
                let edited = (number * 7919) % self.size;
                let (name, params) = (format!("m-{edited}"), PatchParams::default());
                let patch = json!({"spec": {"rewrite": format!("/edit-{number}/")}});
                self.mappings
                    .patch(&name, &params, &Patch::Merge(patch))
                    .await?;
            }
        }
        Ok(())
    }
}

/// Memory of a process, in MiB.
struct Memory {
    resident: f64,
    proportional: f64,
}

impl Memory {
    fn of(process: &Process) -> Self {
        Self {
            resident: process.memory_mib(),
            proportional: process.proportional_memory_mib(),
        }
    }
}

struct Sample {
    hours: f64,
    control_plane: Memory,
    envoy: Memory,
}

impl Sample {
    fn of(hours: f64, rig: &Rig) -> Self {
        Self {
            hours,
            control_plane: Memory::of(&rig.replica.process),
            envoy: Memory::of(&rig.envoy.process),
        }
    }

    fn row(&self, minute: u32, changes: usize) -> Vec<String> {
        let memory =
            |memory: &Memory| format!("{:.1} ({:.1})", memory.resident, memory.proportional);
        vec![
            minute.to_string(),
            changes.to_string(),
            memory(&self.control_plane),
            memory(&self.envoy),
        ]
    }
}

/// Slope of the line that fits these points best; 0 if there are fewer than two.
#[expect(clippy::cast_precision_loss, reason = "a small number")]
fn slope(points: &[(f64, f64)]) -> f64 {
    let count = points.len() as f64;
    let mean = |of: fn(&(f64, f64)) -> f64| points.iter().map(of).sum::<f64>() / count;
    let (middle, level) = (mean(|point| point.0), mean(|point| point.1));
    let rise: f64 = points.iter().map(|(x, y)| (x - middle) * (y - level)).sum();
    let run: f64 = points.iter().map(|(x, _)| (x - middle).powi(2)).sum();
    if run > 0.0 { rise / run } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slope_is_that_of_the_best_line() {
        assert_eq!(slope(&[(0.0, 5.0), (1.0, 7.0), (2.0, 9.0)]), 2.0);
        assert_eq!(slope(&[(0.0, 1.0), (1.0, 3.0), (2.0, 1.0)]), 0.0);
        assert_eq!(slope(&[(0.0, 1.0)]), 0.0);
        assert_eq!(slope(&[]), 0.0);
    }
}
