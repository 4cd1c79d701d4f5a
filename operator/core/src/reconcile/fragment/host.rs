//! What a Host adds: a hostname to serve.

use std::sync::Arc;

use super::{Name, TlsSettings};
use crate::selector::{Labels, Selector};

/// A hostname to serve.
#[derive(Clone, Debug, PartialEq)]
pub struct Host {
    /// Labels, which Listeners select by.
    pub labels: Labels,
    /// Glob, lower case; the domain of the virtual host.
    pub hostname: Arc<str>,
    /// The hostname without its port: the server name that TLS clients send.
    pub server_name: Arc<str>,
    /// Labels of the Mappings that can attach; `None`: those with a matching hostname.
    pub mapping_selector: Option<Selector>,
    /// How insecure requests are handled.
    pub insecure: InsecureAction,
    /// TLS termination.
    pub tls: Option<HostTls>,
}

/// How insecure requests are handled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InsecureAction {
    /// Redirected to https.
    Redirect,
    /// Rejected.
    Reject,
    /// Routed like secure requests.
    Route,
}

/// How a Host terminates TLS.
#[derive(Clone, Debug, PartialEq)]
pub struct HostTls {
    /// Secret with the certificate.
    pub secret: Name,
    /// All other settings.
    pub terms: HostTerms,
}

/// Where a Host's TLS settings come from.
#[derive(Clone, Debug, PartialEq)]
pub enum HostTerms {
    /// The Host itself.
    Own(TlsSettings),
    /// A TLSContext, looked up in the Host's namespace first.
    Context(Name),
    /// The TLSContext of exactly this name, if it exists; otherwise the default settings.
    Implicit(Name),
    /// The settings are invalid, as the reconciler has reported: TLS is not served.
    Invalid,
}
