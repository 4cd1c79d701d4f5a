//! The real kubectl.

use std::{
    io::Write as _,
    process::{Command, Output, Stdio},
};

use anyhow::{Context as _, Result, bail, ensure};

use crate::{
    control_plane::ControlPlane,
    workspace::{root, tool},
};

impl ControlPlane {
    /// Runs kubectl in the root of the checkout with this text as its input, and returns what it prints.
    ///
    /// # Errors
    /// It fails; the error contains its output.
    pub fn kubectl(&self, arguments: &[&str], input: &str) -> Result<String> {
        let output = self.run_kubectl(arguments, input)?;
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// The same, if there is no warning.
    ///
    /// # Errors
    /// It fails, or prints a warning; the error contains its output.
    pub fn kubectl_without_warning(&self, arguments: &[&str], input: &str) -> Result<String> {
        let output = self.run_kubectl(arguments, input)?;
        ensure!(
            output.stderr.is_empty(),
            "kubectl {}: {}",
            arguments.join(" "),
            String::from_utf8_lossy(&output.stderr)
        );
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    fn run_kubectl(&self, arguments: &[&str], input: &str) -> Result<Output> {
        let mut child = Command::new(tool("kubectl")?)
            .arg("--kubeconfig")
            .arg(self.kubeconfig())
            .args([
                "--cache-dir".into(),
                std::env::temp_dir().join("kubectl-cache"),
            ])
            .args(arguments)
            .current_dir(root())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()?;
        child
            .stdin
            .take()
            .context("it has an input")?
            .write_all(input.as_bytes())?;
        let output = child.wait_with_output()?;
        if !output.status.success() {
            bail!(
                "kubectl {}: {}",
                arguments.join(" "),
                String::from_utf8_lossy(&output.stderr)
            );
        }
        Ok(output)
    }

    /// `kubectl apply` of these manifests, in this namespace.
    ///
    /// # Errors
    /// The apiserver rejects them.
    pub fn apply(&self, namespace: &str, manifests: &str) -> Result<()> {
        let arguments = [
            "apply",
            "--namespace",
            namespace,
            "--server-side",
            "--force-conflicts",
            "-f",
            "-",
        ];
        self.kubectl(&arguments, manifests).map(drop)
    }

    /// `kubectl delete` of one object.
    ///
    /// # Errors
    /// It does not exist.
    pub fn delete(&self, namespace: &str, object: &str) -> Result<()> {
        self.kubectl(&["delete", "-n", namespace, object, "--wait=false"], "")
            .map(drop)
    }

    /// A field of an object, by JSONPath.
    ///
    /// # Errors
    /// It does not exist.
    pub fn field(&self, namespace: &str, object: &str, path: &str) -> Result<String> {
        self.kubectl(
            &[
                "get",
                "-n",
                namespace,
                object,
                "-o",
                &format!("jsonpath={path}"),
            ],
            "",
        )
    }
}
