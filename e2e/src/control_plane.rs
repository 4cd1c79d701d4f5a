//! A real Kubernetes control plane: etcd, kube-apiserver, kube-controller-manager.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::atomic::{AtomicUsize, Ordering},
};

use anyhow::{Result, ensure};
use kube::{Client, Config, config::Kubeconfig};

use crate::{
    client::get,
    process::Process,
    wait::until,
    workspace::{logs, root, tool},
};

/// Namespace of the operator.
pub const NAMESPACE: &str = "nuncio-system";
/// Where etcd listens.
pub const ETCD: &str = "127.0.0.1:2379";
/// Where the apiserver listens.
pub const APISERVER: &str = "127.0.0.1:6443";
/// How the names of audit logs begin, which have the requests of the operator. They are beside the logs of processes.
pub const AUDIT_LOG: &str = "audit-";
const TOKEN: &str = "admin-token";
/// Number of the next audit log of this program.
static AUDIT_LOGS: AtomicUsize = AtomicUsize::new(0);

/// What differs between clusters.
#[derive(Debug)]
struct Options {
    /// Where the apiserver reaches etcd.
    etcd_address: String,
    /// Where the apiserver listens.
    bind_address: &'static str,
    /// The controllers that run.
    controllers: &'static str,
}

impl Options {
    /// A cluster in which tests write the EndpointSlices.
    fn without_endpoints(etcd_address: &str) -> Self {
        Self {
            etcd_address: etcd_address.to_owned(),
            bind_address: "127.0.0.1",
            controllers: "*,-endpointslice-controller,-endpoints-controller,-endpointslice-mirroring-controller",
        }
    }

    /// A cluster with a node: Pods reach the apiserver, and there are no heartbeats.
    fn with_node() -> Self {
        Self {
            etcd_address: ETCD.to_owned(),
            bind_address: "0.0.0.0",
            controllers: "*,-node-lifecycle-controller",
        }
    }
}

/// A running control plane. Stopped when dropped.
#[derive(Debug)]
pub struct ControlPlane {
    folder: tempfile::TempDir,
    audit_log: PathBuf,
    etcd: Process,
    options: Options,
    apiserver: Process,
    controllers: Option<Process>,
}

impl ControlPlane {
    /// Starts a cluster with our CustomResourceDefinitions, in which tests write the EndpointSlices.
    ///
    /// # Errors
    /// A tool is missing or does not become ready.
    pub async fn start() -> Result<Self> {
        Self::start_with_etcd_at(ETCD).await
    }

    /// The same, with an apiserver that reaches etcd at this address, such as that of a relay to [`ETCD`].
    ///
    /// # Errors
    /// A tool is missing or does not become ready.
    pub async fn start_with_etcd_at(etcd_address: &str) -> Result<Self> {
        let plane = Self::start_with(Options::without_endpoints(etcd_address)).await?;
        plane.install().await?;
        Ok(plane)
    }

    /// Starts an empty cluster with all controllers, for a node that runs the Pods they make.
    ///
    /// # Errors
    /// A tool is missing or does not become ready.
    pub async fn start_empty() -> Result<Self> {
        Self::start_with(Options::with_node()).await
    }

    async fn start_with(options: Options) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let key = rcgen::KeyPair::generate()?;
        fs::write(folder.path().join("sa.key"), key.serialize_pem())?;
        fs::write(folder.path().join("sa.pub"), key.public_key_pem())?;
        fs::write(
            folder.path().join("tokens.csv"),
            format!("{TOKEN},admin,admin,system:masters\n"),
        )?;
        fs::write(folder.path().join("kubeconfig"), kubeconfig(TOKEN))?;
        let etcd = start_etcd(&folder)?;
        let number = AUDIT_LOGS.fetch_add(1, Ordering::Relaxed);
        let audit_log = logs()?.join(format!("{AUDIT_LOG}{number}.log"));
        let apiserver = start_apiserver(&folder, &options, &audit_log)?;
        let mut plane = Self {
            folder,
            audit_log,
            etcd,
            apiserver,
            options,
            controllers: None,
        };
        plane.ready().await?;
        // one that waits for long ends
        plane.controllers = Some(start_controllers(&plane.folder, &plane.options)?);
        Ok(plane)
    }

    /// Installs the CustomResourceDefinitions, and the permissions of the operator.
    async fn install(&self) -> Result<()> {
        let crds = root().join("config/crd").display().to_string();
        until("CustomResourceDefinitions", || async {
            self.kubectl(&["apply", "--server-side", "-k", &crds], "")
                .map(drop)
        })
        .await?;
        self.kubectl(&["create", "namespace", NAMESPACE], "")?;
        let rbac = root().join("config/rbac").display().to_string();
        self.kubectl(&["apply", "-k", &rbac], "")?;
        self.write_kubeconfig(self.operator_kubeconfig(), "nuncio")?;
        self.kubectl(
            &[
                "wait",
                "--for=condition=Established",
                "--timeout=20s",
                "crd",
                "--all",
            ],
            "",
        )?;
        Ok(())
    }

    /// Path of a kubeconfig for an administrator.
    #[must_use]
    pub fn kubeconfig(&self) -> PathBuf {
        self.folder.path().join("kubeconfig")
    }

    /// Path of a kubeconfig for the service account of the operator, with the permissions in `config/rbac`.
    #[must_use]
    pub fn operator_kubeconfig(&self) -> PathBuf {
        self.folder.path().join("operator-kubeconfig")
    }

    /// Writes a kubeconfig for a ServiceAccount in [`NAMESPACE`], and returns its path.
    ///
    /// # Errors
    /// The ServiceAccount does not exist.
    pub fn account_kubeconfig(&self, account: &str) -> Result<PathBuf> {
        let path = self.folder.path().join(format!("{account}-kubeconfig"));
        self.write_kubeconfig(path.clone(), account)?;
        Ok(path)
    }

    fn write_kubeconfig(&self, path: PathBuf, account: &str) -> Result<()> {
        let token = self.kubectl(&["create", "token", account, "-n", NAMESPACE], "")?;
        Ok(fs::write(path, kubeconfig(token.trim()))?)
    }

    /// The process of the apiserver.
    pub fn apiserver(&mut self) -> &mut Process {
        &mut self.apiserver
    }

    /// The process of etcd.
    pub fn etcd(&mut self) -> &mut Process {
        &mut self.etcd
    }

    /// Starts the apiserver again, after it was killed.
    ///
    /// # Errors
    /// It does not become ready.
    pub async fn restart_apiserver(&mut self) -> Result<()> {
        self.apiserver = start_apiserver(&self.folder, &self.options, &self.audit_log)?;
        self.ready().await
    }

    /// Starts etcd again, after it was killed, with what it has stored.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn restart_etcd(&mut self) -> Result<()> {
        self.etcd = start_etcd(&self.folder)?;
        Ok(())
    }

    /// A client for an administrator.
    ///
    /// # Errors
    /// The kubeconfig is invalid.
    pub async fn client(&self) -> Result<Client> {
        let kubeconfig = Kubeconfig::read_from(self.kubeconfig())?;
        let config = Config::from_custom_kubeconfig(kubeconfig, &Default::default()).await?;
        Ok(Client::try_from(config)?)
    }

    async fn ready(&self) -> Result<()> {
        until("kube-apiserver", || async {
            let output = self.kubectl(&["get", "--raw", "/readyz"], "")?;
            ensure!(output.trim() == "ok", "{output}");
            Ok(())
        })
        .await
    }
}

fn kubeconfig(token: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Config\nclusters: [{{name: c, cluster: {{server: 'https://{APISERVER}', insecure-skip-tls-verify: true}}}}]\n\
         users: [{{name: u, user: {{token: {token}}}}}]\ncontexts: [{{name: x, context: {{cluster: c, user: u}}}}]\ncurrent-context: x\n"
    )
}

fn start_etcd(folder: &tempfile::TempDir) -> Result<Process> {
    Process::start(
        "etcd",
        &tool("etcd")?,
        [
            "--data-dir",
            &folder.path().join("etcd").display().to_string(),
            &format!("--listen-client-urls=http://{ETCD}"),
            &format!("--advertise-client-urls=http://{ETCD}"),
            "--listen-peer-urls=http://127.0.0.1:2380",
            "--initial-advertise-peer-urls=http://127.0.0.1:2380",
            "--initial-cluster=default=http://127.0.0.1:2380",
            "--unsafe-no-fsync",
        ],
        &[],
    )
}

fn start_apiserver(
    folder: &tempfile::TempDir,
    options: &Options,
    audit_log: &Path,
) -> Result<Process> {
    let audit_policy = root().join("e2e/audit_policy.yaml");
    let path = |name: &str| folder.path().join(name).display().to_string();
    Process::start(
        "kube-apiserver",
        &tool("kube-apiserver")?,
        [
            format!("--etcd-servers=http://{}", options.etcd_address),
            "--service-cluster-ip-range=10.96.0.0/16".to_owned(),
            format!("--service-account-key-file={}", path("sa.pub")),
            format!("--service-account-signing-key-file={}", path("sa.key")),
            "--service-account-issuer=https://kubernetes.default.svc".to_owned(),
            format!("--token-auth-file={}", path("tokens.csv")),
            "--authorization-mode=RBAC".to_owned(),
            format!("--cert-dir={}", path("certificates")),
            format!("--bind-address={}", options.bind_address),
            "--advertise-address=10.244.0.1".to_owned(),
            "--enable-aggregator-routing=true".to_owned(),
            "--secure-port=6443".to_owned(),
            format!("--audit-policy-file={}", audit_policy.display()),
            format!("--audit-log-path={}", audit_log.display()),
        ],
        &[],
    )
}

fn start_controllers(folder: &tempfile::TempDir, options: &Options) -> Result<Process> {
    let path = |name: &str| folder.path().join(name).display().to_string();
    Process::start(
        "kube-controller-manager",
        &tool("kube-controller-manager")?,
        [
            format!("--kubeconfig={}", path("kubeconfig")),
            format!("--service-account-private-key-file={}", path("sa.key")),
            "--use-service-account-credentials=true".to_owned(),
            // its certificate is followed by that of the authority that it has made
            format!("--root-ca-file={}", path("certificates/apiserver.crt")),
            "--leader-elect=false".to_owned(),
            format!("--controllers={}", options.controllers),
        ],
        &[],
    )
}

/// The body of a page that answers with 200.
///
/// # Errors
/// The status is another, or there is no answer.
pub async fn page(address: &str, path: &str) -> Result<String> {
    let answer = get(address, "localhost", path).await?;
    ensure!(
        answer.status == 200,
        "{path} answers {}: {}",
        answer.status,
        answer.body
    );
    Ok(answer.body)
}
