//! The rules of ClusterRoles and Roles, as permissions.

use std::{collections::BTreeSet, fs, path::Path};

use anyhow::{Context as _, Result, bail, ensure};
use serde::Deserialize;

use super::Permission;

#[derive(Deserialize)]
struct Role {
    kind: String,
    #[serde(default)]
    rules: Vec<Rule>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Rule {
    api_groups: Vec<String>,
    resources: Vec<String>,
    #[serde(default)]
    resource_names: Vec<String>,
    verbs: Vec<String>,
}

/// Reads the manifests in a folder.
pub(super) fn read(folder: &Path) -> Result<BTreeSet<Permission>> {
    let mut permissions = BTreeSet::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let text = fs::read_to_string(&path)?;
        add(&mut permissions, &text).with_context(|| path.display().to_string())?;
    }
    ensure!(!permissions.is_empty(), "no rule in {}", folder.display());
    Ok(permissions)
}

fn add(permissions: &mut BTreeSet<Permission>, manifests: &str) -> Result<()> {
    let objects: Vec<serde_json::Value> = serde_saphyr::from_multiple(manifests)?;
    for object in objects {
        let is_everywhere = match object["kind"].as_str() {
            Some("ClusterRole") => true,
            Some("Role") => false,
            _ => continue,
        };
        let role: Role = serde_json::from_value(object)?;
        for rule in &role.rules {
            add_rule(permissions, rule, is_everywhere)
                .with_context(|| format!("rule of a {}", role.kind))?;
        }
    }
    Ok(())
}

fn add_rule(
    permissions: &mut BTreeSet<Permission>,
    rule: &Rule,
    is_everywhere: bool,
) -> Result<()> {
    let names: Vec<Option<&String>> = match &*rule.resource_names {
        [] => vec![None],
        names => names.iter().map(Some).collect(),
    };
    for group in &rule.api_groups {
        for resource in &rule.resources {
            for verb in &rule.verbs {
                if [group, resource, verb].iter().any(|word| *word == "*") {
                    bail!("a rule must list what it permits, not *");
                }
                permissions.extend(names.iter().map(|name| Permission {
                    group: group.clone(),
                    resource: resource.clone(),
                    verb: verb.clone(),
                    name: name.cloned(),
                    is_everywhere,
                }));
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rule_is_a_permission_for_each_verb_and_resource() {
        let mut permissions = BTreeSet::new();
        let manifests = "
kind: ClusterRole
rules:
  - {apiGroups: [a], resources: [hosts, hosts/status], verbs: [list, watch]}
---
kind: Role
rules:
  - {apiGroups: [''], resources: [secrets], resourceNames: [ca], verbs: [get]}
---
kind: ServiceAccount
";
        add(&mut permissions, manifests).unwrap();
        let texts: Vec<String> = permissions.iter().map(ToString::to_string).collect();
        assert_eq!(
            texts,
            [
                "get secrets named ca in the namespace of the operator",
                "list hosts.a in all namespaces",
                "watch hosts.a in all namespaces",
                "list hosts/status.a in all namespaces",
                "watch hosts/status.a in all namespaces",
            ]
        );
    }

    #[test]
    fn a_rule_without_limits_is_rejected() {
        let manifests = "{kind: Role, rules: [{apiGroups: [''], resources: [pods], verbs: ['*']}]}";
        assert!(add(&mut BTreeSet::new(), manifests).is_err());
    }
}
