//! `nuncio bootstrap`: a bootstrap configuration for an Envoy that Nuncio does not start itself.

use nuncio_xds::{
    bootstrap::{Bootstrap, Tls, TlsFiles},
    fleet::Protocol,
};

use crate::{
    args::{BootstrapArguments, ProtocolArgument},
    envoy::{unique_id, zone},
    render_command::Format,
};

/// The bootstrap as text.
///
/// # Errors
/// A value that YAML cannot represent, which would be a bug.
pub fn text(arguments: &BootstrapArguments) -> anyhow::Result<String> {
    let tls = match (&arguments.xds_ca, &arguments.xds_cert, &arguments.xds_key) {
        (Some(ca), Some(certificate), Some(key)) => Some(Tls::Files(TlsFiles {
            ca: ca.clone(),
            certificate: certificate.clone(),
            key: key.clone(),
        })),
        _ => None,
    };
    let bootstrap = Bootstrap {
        node_id: arguments.node_id.clone().unwrap_or_else(unique_id),
        cluster: arguments.cluster.clone(),
        ambassador_id: arguments.ambassador_id.clone(),
        zone: zone(),
        xds: arguments.xds.clone(),
        admin: arguments.admin_address.clone(),
        ready: arguments.ready_address,
        protocol: match arguments.protocol {
            ProtocolArgument::Delta => Protocol::Delta,
            ProtocolArgument::Sotw => Protocol::Sotw,
        },
        tls,
        max_heap_bytes: arguments.max_heap_bytes,
        max_connections: arguments.max_connections,
        statsd: crate::statsd::from_env(),
    };
    let json = bootstrap.to_json();
    Ok(match arguments.output {
        Format::Json => serde_json::to_string_pretty(&json)? + "\n",
        Format::Yaml => serde_saphyr::to_string(&json)?,
    })
}
