//! How Mappings are laid out over Hosts.

use std::fmt::Write as _;

use anyhow::Result;
use clap::ValueEnum;

use super::rig::TLS_LISTENER;
use crate::certificate::Authority;

/// How Mappings are laid out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Layout {
    /// Spread over 100 host names, each with TLS
    Tls,
    /// Spread over 100 host names, without TLS
    Cleartext,
    /// All on one host name, without TLS
    One,
}

impl Layout {
    /// As it stands in the table.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Tls => "100 hosts, TLS",
            Self::Cleartext => "100 hosts, cleartext",
            Self::One => "1 host, cleartext",
        }
    }

    /// How many Hosts there are.
    pub(super) const fn hosts(self) -> usize {
        match self {
            Self::Tls | Self::Cleartext => 100,
            Self::One => 1,
        }
    }

    /// The Hosts, with the Secrets that they name and the Listener for them.
    pub(super) fn manifests(self, authority: &Authority) -> Result<String> {
        let mut manifests = match self {
            Self::Tls => TLS_LISTENER.to_owned(),
            Self::Cleartext | Self::One => String::new(),
        };
        for host in 0..self.hosts() {
            let name = hostname(host);
            let rest = match self {
                Self::Tls => {
                    let certificate = authority.issue(&[&name])?;
                    manifests.push_str(&certificate.secret("default", &format!("host-{host}")));
                    format!("tlsSecret: {{name: host-{host}}}")
                }
                Self::Cleartext | Self::One => {
                    "requestPolicy: {insecure: {action: Route}}".to_owned()
                }
            };
            write!(
                manifests,
                "apiVersion: getambassador.io/v3alpha1\nkind: Host\nmetadata: {{name: host-{host}, namespace: default}}\n\
                 spec: {{hostname: {name}, {rest}}}\n---\n",
            )?;
        }
        Ok(manifests)
    }
}

/// The name of a Host.
pub(super) fn hostname(host: usize) -> String {
    format!("host-{host}.example")
}
