//! The environment and the command of a container.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result, bail};
use k8s_openapi::api::core::v1::{Container, EnvFromSource, EnvVarSource, Pod, Service};
use kube::ResourceExt as _;

use super::{cluster::Cluster, network::NODE};

/// The variables of a container, in order.
pub(super) fn variables(
    cluster: &Cluster,
    pod: &Pod,
    container: &Container,
    address: &str,
) -> Result<Vec<(String, String)>> {
    let namespace = pod.namespace().unwrap_or_default();
    let mut found = vec![("HOSTNAME".to_owned(), pod.name_any())];
    let links = pod.spec.as_ref().and_then(|spec| spec.enable_service_links);
    found.extend(services(cluster, &namespace, links.unwrap_or(true)));
    for source in container.env_from.iter().flatten() {
        found.extend(all_of(cluster, &namespace, source)?);
    }
    for variable in container.env.iter().flatten() {
        let value = match (&variable.value, &variable.value_from) {
            (_, Some(source)) => {
                let value = value_from(cluster, pod, container, address, source);
                match value.with_context(|| format!("env {}", variable.name))? {
                    Some(value) => value,
                    None => continue,
                }
            }
            (Some(value), None) => expanded(value, &found),
            (None, None) => String::new(),
        };
        found.retain(|(name, _)| *name != variable.name);
        found.push((variable.name.clone(), value));
    }
    Ok(found)
}

/// `$(NAME)` replaced; `$$` is a dollar sign, and what is not known stays.
pub(super) fn expanded(text: &str, variables: &[(String, String)]) -> String {
    let mut result = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('$') {
        result.push_str(before);
        rest = if let Some(after) = after.strip_prefix('$') {
            result.push('$');
            after
        } else if let Some((name, after)) = after
            .strip_prefix('(')
            .and_then(|after| after.split_once(')'))
        {
            match variables.iter().find(|(known, _)| known == name) {
                Some((_, value)) => result.push_str(value),
                None => result.push_str(&format!("$({name})")),
            }
            after
        } else {
            result.push('$');
            after
        };
    }
    result + rest
}

/// The variables by which a kubelet announces Services, which can collide with those of a program.
fn services(cluster: &Cluster, namespace: &str, all: bool) -> Vec<(String, String)> {
    let mut services = cluster.services.all();
    services.retain(|service| {
        let own = service.namespace().unwrap_or_default();
        let is_apiserver = own == "default" && service.name_any() == "kubernetes";
        is_apiserver || all && own == namespace
    });
    services.sort_by_key(|service| service.name_any());
    services.iter().flat_map(|service| links(service)).collect()
}

fn links(service: &Service) -> Vec<(String, String)> {
    let spec = service.spec.clone().unwrap_or_default();
    let Some(address) = spec.cluster_ip.filter(|address| address != "None") else {
        return Vec::new();
    };
    let upper = |text: &str| text.to_uppercase().replace('-', "_");
    let name = upper(&service.name_any());
    let ports = spec.ports.unwrap_or_default();
    let Some(first) = ports.first() else {
        return Vec::new();
    };
    let mut found = vec![
        (format!("{name}_SERVICE_HOST"), address.clone()),
        (format!("{name}_SERVICE_PORT"), first.port.to_string()),
        (
            format!("{name}_PORT"),
            format!("tcp://{address}:{}", first.port),
        ),
    ];
    for port in &ports {
        if let Some(port_name) = &port.name {
            let variable = format!("{name}_SERVICE_PORT_{}", upper(port_name));
            found.push((variable, port.port.to_string()));
        }
        let protocol = port.protocol.as_deref().unwrap_or("TCP");
        let prefix = format!("{name}_PORT_{}_{protocol}", port.port);
        let lower = protocol.to_lowercase();
        found.extend([
            (prefix.clone(), format!("{lower}://{address}:{}", port.port)),
            (format!("{prefix}_PROTO"), lower),
            (format!("{prefix}_PORT"), port.port.to_string()),
            (format!("{prefix}_ADDR"), address.clone()),
        ]);
    }
    found
}

fn all_of(
    cluster: &Cluster,
    namespace: &str,
    source: &EnvFromSource,
) -> Result<Vec<(String, String)>> {
    let prefix = source.prefix.clone().unwrap_or_default();
    let (found, optional) = match (&source.config_map_ref, &source.secret_ref) {
        (Some(map), _) => {
            let found = cluster.config_maps.get(namespace, &map.name);
            (found.map(|map| text_of(map.data.clone())), map.optional)
        }
        (None, Some(secret)) => {
            let found = cluster.secrets.get(namespace, &secret.name);
            let texts = found.map(|secret| {
                let data = secret.data.clone().unwrap_or_default();
                let texts = data
                    .into_iter()
                    .map(|(name, value)| (name, String::from_utf8_lossy(&value.0).into_owned()));
                texts.collect()
            });
            (texts, secret.optional)
        }
        (None, None) => bail!("unsupported source in envFrom"),
    };
    match found {
        Some(found) => Ok(found
            .into_iter()
            .map(|(name, value)| (format!("{prefix}{name}"), value))
            .collect()),
        None if optional == Some(true) => Ok(Vec::new()),
        None => bail!("a source of envFrom is missing"),
    }
}

fn text_of(data: Option<BTreeMap<String, String>>) -> BTreeMap<String, String> {
    data.unwrap_or_default()
}

fn value_from(
    cluster: &Cluster,
    pod: &Pod,
    container: &Container,
    address: &str,
    source: &EnvVarSource,
) -> Result<Option<String>> {
    let namespace = pod.namespace().unwrap_or_default();
    if let Some(field) = &source.field_ref {
        return field_of(pod, &field.field_path, address).map(Some);
    }
    if let Some(resource) = &source.resource_field_ref {
        let divisor = resource.divisor.as_ref().map_or("1", |divisor| &divisor.0);
        return resource_of(container, &resource.resource, divisor).map(Some);
    }
    if let Some(key) = &source.config_map_key_ref {
        let map = cluster.config_maps.get(&namespace, &key.name);
        let value = map.and_then(|map| map.data.as_ref()?.get(&key.key).cloned());
        return required(value, key.optional, &format!("ConfigMap {}", key.name));
    }
    if let Some(key) = &source.secret_key_ref {
        let secret = cluster.secrets.get(&namespace, &key.name);
        let value = secret.and_then(|secret| secret.data.as_ref()?.get(&key.key).cloned());
        let value = value.map(|value| String::from_utf8_lossy(&value.0).into_owned());
        return required(value, key.optional, &format!("Secret {}", key.name));
    }
    bail!("unsupported source of a variable")
}

fn required(value: Option<String>, optional: Option<bool>, what: &str) -> Result<Option<String>> {
    if value.is_none() && optional != Some(true) {
        bail!("{what} or its key is missing");
    }
    Ok(value)
}

/// A field of a Pod, as the downward API has it.
pub(super) fn field_of(pod: &Pod, path: &str, address: &str) -> Result<String> {
    let spec = pod.spec.clone().unwrap_or_default();
    if let Some((map, key)) = path
        .strip_suffix("']")
        .and_then(|path| path.split_once("['"))
    {
        let map = match map {
            "metadata.labels" => pod.labels(),
            "metadata.annotations" => pod.annotations(),
            _ => bail!("unsupported field {path}"),
        };
        return Ok(map.get(key).cloned().unwrap_or_default());
    }
    let lines = |map: &BTreeMap<String, String>| {
        let lines = map.iter().map(|(name, value)| format!("{name}={value:?}"));
        lines.collect::<Vec<_>>().join("\n")
    };
    Ok(match path {
        "metadata.name" => pod.name_any(),
        "metadata.namespace" => pod.namespace().unwrap_or_default(),
        "metadata.uid" => pod.uid().unwrap_or_default(),
        "metadata.labels" => lines(pod.labels()),
        "metadata.annotations" => lines(pod.annotations()),
        "spec.nodeName" => spec.node_name.unwrap_or_default(),
        "spec.serviceAccountName" => spec.service_account_name.unwrap_or_default(),
        "status.podIP" | "status.podIPs" => address.to_owned(),
        "status.hostIP" | "status.hostIPs" => NODE.to_string(),
        _ => bail!("unsupported field {path}"),
    })
}

/// A request or limit of a container in units of `divisor`, rounded up; without one, what the Node has.
pub(super) fn resource_of(container: &Container, path: &str, divisor: &str) -> Result<String> {
    let resources = container.resources.clone().unwrap_or_default();
    let (kind, name) = path.split_once('.').context("resource without a kind")?;
    let (limits, requests) = (resources.limits, resources.requests);
    let quantities = match kind {
        "limits" => limits,
        "requests" => requests.or(limits),
        _ => bail!("unsupported resource {path}"),
    };
    let quantity = quantities.and_then(|quantities| quantities.get(name).cloned());
    let quantity = match (quantity, kind, name) {
        (Some(quantity), ..) => quantity.0,
        (None, "limits", "cpu") => "64".to_owned(),
        (None, "limits", "memory") => "256Gi".to_owned(),
        _ => "0".to_owned(),
    };
    let divisor = match divisor {
        "" | "0" => "1",
        divisor => divisor,
    };
    Ok(format!(
        "{:.0}",
        (number(&quantity)? / number(divisor)?).ceil()
    ))
}

/// The number that a quantity is.
fn number(quantity: &str) -> Result<f64> {
    let digits = quantity.trim_end_matches(|letter: char| letter.is_ascii_alphabetic());
    let unit = match &quantity[digits.len()..] {
        "" => 1.0,
        "m" => 0.001,
        "k" => 1e3,
        "M" => 1e6,
        "G" => 1e9,
        "T" => 1e12,
        "Ki" => 1024.0,
        "Mi" => 1024.0 * 1024.0,
        "Gi" => 1024.0 * 1024.0 * 1024.0,
        "Ti" => 1024.0 * 1024.0 * 1024.0 * 1024.0,
        _ => bail!("unsupported quantity {quantity}"),
    };
    let value: f64 = digits
        .parse()
        .with_context(|| format!("invalid quantity {quantity}"))?;
    Ok(value * unit)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn variables_are_expanded_as_kubernetes_does() {
        let variables = [("A".to_owned(), "1".to_owned())];
        for (text, result) in [
            ("--a=$(A)", "--a=1"),
            ("$(A)$(A)", "11"),
            ("$(B)", "$(B)"),
            ("$$(A)", "$(A)"),
            ("$A $", "$A $"),
        ] {
            assert_eq!(expanded(text, &variables), result, "{text}");
        }
    }

    #[test]
    fn resources_are_rounded_up_in_units_of_the_divisor() {
        let container = json!({"name": "c", "resources": {
            "limits": {"memory": "100Mi", "cpu": "1500m"}, "requests": {"cpu": "250m"},
        }});
        let container: Container = serde_json::from_value(container).unwrap();
        for (path, divisor, result) in [
            ("limits.memory", "0", "104857600"),
            ("limits.memory", "1Mi", "100"),
            ("limits.cpu", "0", "2"),
            ("requests.cpu", "1m", "250"),
        ] {
            assert_eq!(
                resource_of(&container, path, divisor).unwrap(),
                result,
                "{path}"
            );
        }
    }

    #[test]
    fn services_are_announced_by_variables() {
        let service = json!({"metadata": {"name": "nuncio-xds"}, "spec": {
            "clusterIP": "10.96.0.7", "ports": [{"name": "grpc", "port": 8003}],
        }});
        let links = links(&serde_json::from_value(service).unwrap());
        for (name, value) in [
            ("NUNCIO_XDS_SERVICE_HOST", "10.96.0.7"),
            ("NUNCIO_XDS_PORT", "tcp://10.96.0.7:8003"),
            ("NUNCIO_XDS_SERVICE_PORT_GRPC", "8003"),
            ("NUNCIO_XDS_PORT_8003_TCP_ADDR", "10.96.0.7"),
        ] {
            assert!(
                links.contains(&(name.to_owned(), value.to_owned())),
                "{name}"
            );
        }
    }
}
