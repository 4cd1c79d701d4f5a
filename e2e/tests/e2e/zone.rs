//! Topology hints, with an Envoy in zone `a`.

use anyhow::{Result, ensure};
use nuncio_e2e::{backend::Backend, client::get, wait::until};

use super::{
    consul::{Served, answers},
    serve::HTTP,
};

/// A Service with an endpoint in each of these zones.
fn service(more: &str, zones: &[&str]) -> String {
    let endpoint = |zone: &&str| {
        let address = if *zone == "a" {
            "127.0.8.1"
        } else {
            "127.0.8.2"
        };
        format!("{{addresses: [{address}], zone: {zone}, hints: {{forZones: [{{name: {zone}}}]}}}}")
    };
    let endpoints: Vec<String> = zones.iter().map(endpoint).collect();
    format!(
        "apiVersion: v1\nkind: Service\nmetadata: {{name: pods}}\nspec: {{clusterIP: 10.96.8.1, ports: [{{port: 80}}]{more}}}\n---\n\
         apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata: {{name: pods-1, labels: {{kubernetes.io/service-name: pods}}}}\n\
         addressType: IPv4\nports: [{{name: '', port: 8000}}]\nendpoints: [{}]\n",
        endpoints.join(", ")
    )
}

/// Who answers 20 requests.
async fn answering(path: &str) -> Result<[usize; 2]> {
    let mut counts = [0; 2];
    for _ in 0..20 {
        let answer = get(HTTP, "localhost", path).await?;
        ensure!(answer.status == 200, "{}", answer.status);
        counts[usize::from(answer.body.starts_with("there"))] += 1;
    }
    Ok(counts)
}

pub(crate) async fn requests_stay_in_the_zone_of_the_envoy() -> Result<()> {
    const NEAR: &str = ", trafficDistribution: PreferSameZone";
    let _here = Backend::start("127.0.8.1:8000", "here").await?;
    let _there = Backend::start("127.0.8.2:8000", "there").await?;
    let mut served = Served::new()?;
    served.write("service", &service(NEAR, &["a", "b"]))?;
    served.mapping("pods", "pods", ", resolver: endpoint")?;
    let least = ", resolver: endpoint, load_balancer: {policy: least_request}";
    served.mapping("least", "pods", least)?;
    served.start().await?;
    for name in ["pods", "least"] {
        answers(name, 200, "here").await?;
        let path = format!("/{name}/");
        ensure!(answering(&path).await? == [20, 0], "{name} leaves the zone");
    }
    // nothing is left in the zone
    served.write("service", &service(NEAR, &["b"]))?;
    answers("pods", 200, "there").await?;
    served.write("service", &service(NEAR, &["a", "b"]))?;
    answers("pods", 200, "here").await?;
    // the Service does not ask for it any more
    served.write("service", &service("", &["a", "b"]))?;
    until("requests in both zones", || async {
        let counts = answering("/pods/").await?;
        ensure!(counts.iter().all(|count| *count > 5), "{counts:?}");
        Ok(())
    })
    .await
}
