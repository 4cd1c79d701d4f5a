//! What the environment says: which instance this is and which objects are its own. The names of the variables are
//! Emissary's, so that its deployments can be carried over.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    net::{IpAddr, Ipv4Addr},
    path::PathBuf,
};

use nuncio_ir::EnvoyVersion;

mod fleets;

pub use fleets::Fleets;

/// See [`Settings::least_tables_by_host`].
const LEAST_TABLES_BY_HOST: usize = 8;
/// See [`Settings::most_tables_of_redirects`].
const MOST_TABLES_OF_REDIRECTS: usize = 256;

/// Settings of a fleet, fixed at the start of the process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// The `AMBASSADOR_ID` of the fleet: only objects that name it (or `_automatic_`) are ours.
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
    /// `AMBASSADOR_KNATIVE_SUPPORT`: Ingresses of Knative are watched.
    pub knative: bool,
    /// Rules of Knative with visibility `ClusterLocal` are served only by Hosts that select them by their label.
    pub knative_local_hosts: bool,
    /// `DISABLE_STRICT_LABEL_SELECTORS`: one label of a selector is enough.
    pub loose_label_selectors: bool,
    /// `AMBASSADOR_DISABLE_ENDPOINTS`: the load balancers of Mappings are ignored.
    pub disable_endpoints: bool,
    /// Whether Consul is queried, so that a service may be there and not known.
    pub queries_consul: bool,
    /// TCP ports of this process and of an Envoy that it runs, on which whoever connects needs no certificate. They are never
    /// upstreams.
    pub own_ports: BTreeSet<u16>,
    /// From how many exact host names on each has a route table of its own on cleartext connections, so that a change costs as
    /// much as there are routes of its host name. With fewer, one table for all is simpler for Envoy. And from how many server
    /// names with the same certificate and terms on they share a filter chain on TLS connections.
    pub least_tables_by_host: usize,
    /// Up to how many host names of a port have route tables of their own even if all requests are redirected or rejected.
    pub most_tables_of_redirects: usize,
    /// Envoys of this version and later have to accept what objects add.
    pub oldest_envoy: EnvoyVersion,
    /// Variables of the environment, which a Module and files can contain.
    pub variables: Variables,
}

/// Variables of the environment by name. Values can be secret, so they are not printed.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Variables(BTreeMap<String, String>);

impl Variables {
    /// The value of a variable that is set.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }
}

impl FromIterator<(String, String)> for Variables {
    fn from_iter<I: IntoIterator<Item = (String, String)>>(variables: I) -> Self {
        Self(variables.into_iter().collect())
    }
}

impl<const N: usize> From<[(String, String); N]> for Variables {
    fn from(variables: [(String, String); N]) -> Self {
        variables.into_iter().collect()
    }
}

impl fmt::Debug for Variables {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
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
            knative: false,
            knative_local_hosts: false,
            loose_label_selectors: false,
            disable_endpoints: false,
            queries_consul: false,
            own_ports: BTreeSet::new(),
            least_tables_by_host: LEAST_TABLES_BY_HOST,
            most_tables_of_redirects: MOST_TABLES_OF_REDIRECTS,
            oldest_envoy: EnvoyVersion::NEWEST,
            variables: Variables::default(),
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
    /// Reads the variables through `variable`, which is `std::env::var` but for tests. Empty means unset. `AMBASSADOR_ID` is
    /// not split; see [`Fleets`].
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
            knative: variable("AMBASSADOR_KNATIVE_SUPPORT")
                .is_some_and(|value| value.eq_ignore_ascii_case("true")),
            knative_local_hosts: defaults.knative_local_hosts,
            loose_label_selectors: ["y", "yes", "on", "1", "true", "t"]
                .contains(&loose.to_lowercase().as_str()),
            disable_endpoints: variable("AMBASSADOR_DISABLE_ENDPOINTS").is_some(),
            queries_consul: false,
            own_ports: defaults.own_ports,
            least_tables_by_host: defaults.least_tables_by_host,
            most_tables_of_redirects: defaults.most_tables_of_redirects,
            oldest_envoy: defaults.oldest_envoy,
            variables: defaults.variables,
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
    fn endpoints_are_disabled_by_any_value() {
        let settings = Settings::from_env(|name| {
            (name == "AMBASSADOR_DISABLE_ENDPOINTS").then(|| "false".to_owned())
        });
        assert!(settings.unwrap().disable_endpoints);
    }

    #[test]
    fn only_true_in_any_case_enables_knative() {
        let knative = |value: &str| {
            let variable =
                |name: &str| (name == "AMBASSADOR_KNATIVE_SUPPORT").then(|| value.to_owned());
            Settings::from_env(variable).unwrap().knative
        };
        assert!(knative("true") && knative("TRUE"));
        assert!(!knative("1") && !knative("yes") && !knative(""));
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
