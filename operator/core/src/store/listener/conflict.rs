//! Problems of objects that want the same port, server name or connections. Where they are of different namespaces, the one
//! that is served reports it, too.

use nuncio_ir::ListenerKey;

use super::{chain::Link, claims::age};
use crate::{
    object::ObjectRef,
    reconcile::Listener,
    report::{Problem, Reason},
    store::neighbour,
};

impl Link {
    /// Listeners that claim the socket of another.
    pub(super) fn report_losers(
        &mut self,
        key: ListenerKey,
        owner: &ObjectRef,
        listener: &Listener,
        losers: &[(&ObjectRef, &Listener)],
    ) {
        for (loser, claim) in losers {
            let is_older = age(listener.created) < age(claim.created);
            let why = if is_older && owner.namespace != loser.namespace {
                ", which is older"
            } else if owner < loser {
                ", which comes first by name"
            } else {
                ""
            };
            self.report(
                owner,
                Problem::notice(
                    Reason::PORT_CONFLICT,
                    "spec.port",
                    format!(
                        "port {} is also claimed by {loser}, which is not served",
                        key.port
                    ),
                ),
            );
            self.report(
                loser,
                Problem::invalid(
                    Reason::PORT_CONFLICT,
                    "spec.port",
                    format!(
                        "port {} belongs to {owner}{why}; this Listener is not served",
                        key.port
                    ),
                ),
            );
        }
    }

    /// A Host whose server name another has, with other TLS settings.
    pub(super) fn report_server_name(
        &mut self,
        server_name: &str,
        host: &ObjectRef,
        first: &ObjectRef,
    ) {
        let message = format!(
            "duplicate server name {server_name:?}: {first} comes first by name and is served; its certificate or TLS settings differ"
        );
        self.report(
            host,
            Problem::ignored(Reason::SERVER_NAME_CONFLICT, "spec.hostname", message),
        );
        if first.namespace != host.namespace {
            let fact = format!(
                "has the same server name {server_name:?}; its certificate or TLS settings are not used"
            );
            self.report(first, neighbour::notice("spec.hostname", host, &fact));
        }
    }

    /// A TCPMapping has connections that an object of another namespace would get.
    pub(super) fn report_taken(&mut self, tcp_mapping: &ObjectRef, other: &ObjectRef) {
        if tcp_mapping.namespace != other.namespace {
            let fact = "does not get these connections: TCPMappings take precedence";
            self.report(tcp_mapping, neighbour::notice("spec.port", other, fact));
        }
    }
}
