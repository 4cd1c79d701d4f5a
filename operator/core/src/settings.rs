//! What the environment says: which instance this is and which objects are its own. The names of the variables are
//! Emissary's, so that its deployments can be carried over.

use std::{
    collections::BTreeSet,
    net::{IpAddr, Ipv4Addr},
    path::PathBuf,
};

/// Settings of the whole process, fixed at its start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// `AMBASSADOR_ID`: only objects that name it (or `_automatic_`) are ours.
    pub ambassador_id: String,
    /// `AMBASSADOR_NAMESPACE`: where the gateway itself lives.
    pub ambassador_namespace: String,
    /// The one namespace that is watched, when `AMBASSADOR_SINGLE_NAMESPACE` is set to anything.
    pub single_namespace: Option<String>,
    /// `AMBASSADOR_LABEL_SELECTOR`, for every watch.
    pub label_selector: Option<String>,
    /// `AMBASSADOR_FIELD_SELECTOR`, for the watches of `getambassador.io` kinds.
    pub field_selector: Option<String>,
    /// Whether every Service there is can be seen: true in a cluster, where an unknown one is worth a report.
    pub in_cluster: bool,
    /// Whether Secrets are read only when something refers to them, so that one may be there and not known.
    pub reads_secrets_on_demand: bool,
    /// `AMBASSADOR_ENVOY_BIND_ADDRESS`: where Envoy's listeners bind.
    pub bind_address: IpAddr,
    /// `AMBASSADOR_ISTIO_SECRET_DIR`: where Istio's agent writes certificates.
    pub istio_secret_dir: Option<PathBuf>,
    /// `DISABLE_STRICT_LABEL_SELECTORS`: one label of a selector is enough.
    pub loose_label_selectors: bool,
    /// TCP ports of this process and of an Envoy that it runs, on which whoever connects needs no certificate. They are never
    /// upstreams.
    pub own_ports: BTreeSet<u16>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            ambassador_id: "default".to_owned(),
            ambassador_namespace: "default".to_owned(),
            single_namespace: None,
            label_selector: None,
            field_selector: None,
            in_cluster: false,
            reads_secrets_on_demand: false,
            bind_address: Ipv4Addr::UNSPECIFIED.into(),
            istio_secret_dir: None,
            loose_label_selectors: false,
            own_ports: BTreeSet::new(),
        }
    }
}

/// A variable whose value cannot be used.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("invalid environment variable {name}={value:?}: must be {expected}")]
pub struct Error {
    name: &'static str,
    value: String,
    expected: &'static str,
}

impl Settings {
    /// Reads the variables through `variable`, which is `std::env::var` but for tests. Empty means unset.
    ///
    /// # Errors
    /// A bind address that is no IP address.
    pub fn from_env(variable: impl Fn(&str) -> Option<String>) -> Result<Self, Error> {
        let variable = |name: &str| variable(name).filter(|value| !value.is_empty());
        let defaults = Self::default();
        let ambassador_namespace =
            variable("AMBASSADOR_NAMESPACE").unwrap_or(defaults.ambassador_namespace);
        let bind_address = match variable("AMBASSADOR_ENVOY_BIND_ADDRESS") {
            None => defaults.bind_address,
            Some(value) => value.parse().map_err(|_source| Error {
                name: "AMBASSADOR_ENVOY_BIND_ADDRESS",
                value,
                expected: "an IP address",
            })?,
        };
        let loose = variable("DISABLE_STRICT_LABEL_SELECTORS").unwrap_or_default();
        Ok(Self {
            ambassador_id: variable("AMBASSADOR_ID").unwrap_or(defaults.ambassador_id),
            single_namespace: variable("AMBASSADOR_SINGLE_NAMESPACE")
                .map(|_any| ambassador_namespace.clone()),
            ambassador_namespace,
            label_selector: variable("AMBASSADOR_LABEL_SELECTOR"),
            field_selector: variable("AMBASSADOR_FIELD_SELECTOR"),
            in_cluster: false,
            reads_secrets_on_demand: false,
            bind_address,
            istio_secret_dir: variable("AMBASSADOR_ISTIO_SECRET_DIR").map(Into::into),
            loose_label_selectors: ["y", "yes", "on", "1", "true", "t"]
                .contains(&loose.to_lowercase().as_str()),
            own_ports: defaults.own_ports,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_environment_gives_the_defaults() {
        assert_eq!(Settings::from_env(|_| None), Ok(Settings::default()));
        assert_eq!(
            Settings::from_env(|_| Some(String::new())),
            Ok(Settings::default())
        );
    }

    #[test]
    fn single_namespace_is_the_ambassador_namespace_whatever_its_value() {
        let settings = Settings::from_env(|name| match name {
            "AMBASSADOR_NAMESPACE" => Some("edge".to_owned()),
            "AMBASSADOR_SINGLE_NAMESPACE" => Some("false".to_owned()),
            _ => None,
        });
        assert_eq!(settings.unwrap().single_namespace.as_deref(), Some("edge"));
    }

    #[test]
    fn a_bind_address_that_is_none_is_an_error_with_its_name() {
        let error = Settings::from_env(|name| {
            (name == "AMBASSADOR_ENVOY_BIND_ADDRESS").then(|| "here".to_owned())
        })
        .unwrap_err();
        assert!(error.to_string().contains("AMBASSADOR_ENVOY_BIND_ADDRESS"));
    }
}
