//! The command line and the environment of `nuncio apiext`.

use std::{env, fs, net::SocketAddr};

use clap::Args;

/// Namespace if nothing else says which.
const DEFAULT_NAMESPACE: &str = "emissary-system";
/// The namespace of a pod, in a file.
const NAMESPACE_FILE: &str = "/var/run/secrets/kubernetes.io/serviceaccount/namespace";

/// The end of the help of `nuncio apiext`.
pub const HELP: &str = "Needed only while CustomResourceDefinitions of getambassador.io serve or store v1 or v2. The cluster is that of the kubeconfig,
or the one that the process runs in. One replica, the leader, keeps a certificate authority in Secret
emissary-ingress-webhook-ca, renews it before it expires, and patches the definitions to call SERVICE and to trust it.
A definition with conversion strategy None is left alone, with a warning.

Environment:
  POD_NAMESPACE           Namespace of the Service, the Secret and the Lease [default: that of the ServiceAccount, or
                          emissary-system]
  POD_NAME                Identity in leader election [default: host name and process ID]
  DISABLE_CRD_MANAGEMENT  Do not patch definitions, if set to any value: another program sets their caBundle
  DISABLE_CA_MANAGEMENT   Only read the Secret, if set to any value: another program, such as cert-manager, writes tls.crt and
                          tls.key (the certificate and key of the authority)
  AES_LOG_LEVEL           debug, info, warn or error; RUST_LOG wins [default: info]

Health server:
  /probes/live            200 while the process runs
  /probes/ready           200 once a review was converted over HTTPS with the certificates that the definitions trust;
                          otherwise what is missing
  /metrics                Metrics

Examples:
  nuncio apiext nuncio-apiext
  nuncio apiext nuncio-apiext --crd-label-selector app.kubernetes.io/part-of=nuncio
  kubectl get crd mappings.getambassador.io -o jsonpath='{.spec.conversion}'";

/// The arguments of `nuncio apiext`.
#[derive(Clone, Debug, Args)]
pub struct ApiextArguments {
    /// Name of the Kubernetes Service of the webhook; definitions are patched to call it on port 443
    #[arg(value_name = "SERVICE")]
    pub service: String,
    /// Labels of the CustomResourceDefinitions to manage, KEY=VALUE[,KEY=VALUE...] [default: all of getambassador.io]
    #[arg(long, value_name = "SELECTOR", value_parser = selector)]
    pub crd_label_selector: Option<String>,
    /// Context of the kubeconfig [default: its current context]
    #[arg(long)]
    pub context: Option<String>,
    /// Address of the webhook (HTTPS)
    #[arg(
        long,
        value_name = "IP:PORT",
        default_value = "0.0.0.0:8443",
        help_heading = "Servers"
    )]
    pub address: SocketAddr,
    /// Address of the server for probes and metrics (HTTP)
    #[arg(
        long,
        value_name = "IP:PORT",
        default_value = "0.0.0.0:8080",
        help_heading = "Servers"
    )]
    pub health_address: SocketAddr,
}

/// What the environment says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Environment {
    /// Namespace of the Service, the Secret and the Lease.
    pub(super) namespace: String,
    /// Identity in leader election.
    pub(super) identity: String,
    /// Whether definitions are patched.
    pub(super) manages_definitions: bool,
    /// Whether the authority is made and renewed.
    pub(super) manages_authority: bool,
}

impl Environment {
    /// That of this process.
    pub(super) fn of_process() -> Self {
        let file = fs::read_to_string(NAMESPACE_FILE).ok();
        let host = crate::envoy::hostname();
        Self::new(|name| env::var(name).ok(), file, &host)
    }

    fn new(
        variable: impl Fn(&str) -> Option<String>,
        namespace_file: Option<String>,
        host: &str,
    ) -> Self {
        let set = |name| variable(name).filter(|value| !value.is_empty());
        let file = namespace_file.map(|text| text.trim().to_owned());
        let file = file.filter(|namespace| !namespace.is_empty());
        Self {
            namespace: set("POD_NAMESPACE")
                .or(file)
                .unwrap_or_else(|| DEFAULT_NAMESPACE.to_owned()),
            identity: set("POD_NAME").unwrap_or_else(|| format!("{host}-{}", std::process::id())),
            manages_definitions: set("DISABLE_CRD_MANAGEMENT").is_none(),
            manages_authority: set("DISABLE_CA_MANAGEMENT").is_none(),
        }
    }
}

impl Environment {
    /// Whether a leader is elected.
    pub(super) fn has_leader(&self) -> bool {
        self.manages_definitions || self.manages_authority
    }
}

/// A label selector of pairs, as in Emissary-ingress.
fn selector(text: &str) -> Result<String, &'static str> {
    let is_valid = |part: &str| {
        part.bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"-_./".contains(&byte))
    };
    let are_pairs = text.split(',').all(|pair| {
        pair.split_once('=')
            .is_some_and(|(key, value)| !key.is_empty() && is_valid(key) && is_valid(value))
    });
    match are_pairs {
        true => Ok(text.to_owned()),
        false => Err("use KEY=VALUE[,KEY=VALUE...]"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn environment(variables: &[(&str, &str)], file: Option<&str>) -> Environment {
        let find = |name: &str| {
            let found = variables.iter().find(|(known, _)| *known == name);
            found.map(|(_, value)| (*value).to_owned())
        };
        Environment::new(find, file.map(str::to_owned), "host")
    }

    #[test]
    fn the_namespace_is_that_of_the_pod() {
        assert_eq!(environment(&[], None).namespace, "emissary-system");
        assert_eq!(environment(&[], Some("a\n")).namespace, "a");
        let set = [("POD_NAMESPACE", "b")];
        assert_eq!(environment(&set, Some("a")).namespace, "b");
        let empty = [("POD_NAMESPACE", "")];
        assert_eq!(environment(&empty, Some("a")).namespace, "a");
    }

    #[test]
    fn any_value_disables_management() {
        let none = environment(&[], None);
        assert!(none.manages_definitions && none.manages_authority);
        let empty = environment(&[("DISABLE_CRD_MANAGEMENT", "")], None);
        assert!(empty.manages_definitions);
        let both = [
            ("DISABLE_CRD_MANAGEMENT", "false"),
            ("DISABLE_CA_MANAGEMENT", "0"),
        ];
        let both = environment(&both, None);
        assert!(!both.manages_definitions && !both.manages_authority);
    }

    #[test]
    fn a_selector_has_keys_and_values() {
        let valid = "app.kubernetes.io/part-of=emissary-ingress,a=b";
        assert_eq!(selector(valid).as_deref(), Ok(valid));
        for text in ["", "a", "=b", "a=b,", "a in (b)", "a==b"] {
            assert!(selector(text).is_err(), "{text}");
        }
    }
}
