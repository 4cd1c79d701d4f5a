//! Level of TLSContexts: the secrets they name, and what follows for whoever refers to them.

use std::{mem, sync::Arc};

use nuncio_ir::{ClientTls, ServerTls};

use super::Store;
use crate::{
    object::{Kind, ObjectRef},
    reconcile::{Name, TlsContext},
    report::{Problem, Report},
};

/// Why a TLSContext is of no use that its reconciler has refused.
const REFUSED: &str = "it is not in order, as its conditions say";

/// Why nobody is let in by it.
pub(super) const UNCHECKED: &str =
    "it requires certificates of clients, and there is no ca_secret to check them";

/// A TLSContext with what follows from its secrets.
#[derive(Debug)]
pub(super) struct ContextState {
    pub(super) context: Arc<TlsContext>,
    /// Resources of its certificate and of what is trusted, or what is wrong with them.
    found: Result<Found, Vec<Problem>>,
}

#[derive(Debug, Default)]
struct Found {
    certificate: Option<Arc<str>>,
    trusted: Option<Arc<str>>,
}

impl ContextState {
    fn found(&self) -> Result<&Found, String> {
        let text = |problems: &Vec<Problem>| {
            let messages: Vec<&str> = problems
                .iter()
                .map(|problem| problem.message.as_str())
                .collect();
            messages.join(" and ")
        };
        self.found.as_ref().map_err(text)
    }

    /// TLS to upstreams.
    ///
    /// # Errors
    /// Why there is none.
    pub(super) fn client(&self) -> Result<ClientTls, String> {
        let found = self.found()?;
        let settings = &self.context.settings;
        Ok(ClientTls {
            certificate: found.certificate.clone(),
            trusted: found.trusted.clone(),
            server_name: self.context.server_name.clone(),
            alpn: settings.alpn.clone(),
            parameters: settings.parameters.clone(),
        })
    }

    /// TLS from clients, with this certificate or else its own.
    ///
    /// # Errors
    /// Why there is none.
    pub(super) fn server(&self, certificate: Option<Arc<str>>) -> Result<ServerTls, String> {
        let found = self.found()?;
        let settings = &self.context.settings;
        let certificate = certificate.or_else(|| found.certificate.clone());
        Ok(ServerTls {
            secret: certificate.ok_or("it names no secret with a certificate")?,
            trusted: found.trusted.clone(),
            require_client_certificate: settings.require_client_certificate,
            alpn: settings.alpn.clone(),
            parameters: settings.parameters.clone(),
        })
    }

    /// TLS from clients, with its own certificate.
    ///
    /// # Errors
    /// Why there is none.
    pub(super) fn own_server(&self) -> Result<ServerTls, String> {
        let tls = self.server(None)?;
        if tls.require_client_certificate && tls.trusted.is_none() {
            return Err(UNCHECKED.to_owned());
        }
        Ok(tls)
    }

    /// Whether a resource is one of its secrets.
    pub(super) fn has_secret(&self, resource: &str) -> bool {
        self.found.as_ref().is_ok_and(|found| {
            [&found.certificate, &found.trusted]
                .into_iter()
                .flatten()
                .any(|secret| &**secret == resource)
        })
    }
}

impl Store {
    pub(super) fn set_context(&mut self, object: &ObjectRef, context: Option<Arc<TlsContext>>) {
        if let Some(old) = self.contexts.remove(object) {
            for secret in secrets(&old.context) {
                self.secret_users.remove(secret, object);
                self.dirty.secrets.insert(secret.clone());
            }
        }
        if let Some(context) = context {
            for secret in secrets(&context) {
                self.secret_users.add(secret, object);
                self.dirty.secrets.insert(secret.clone());
            }
            let found = Ok(Found::default());
            let state = ContextState { context, found };
            self.contexts.insert(object.clone(), state);
        }
        self.dirty.contexts.insert(object.clone());
    }

    pub(super) fn link_contexts(&mut self) {
        for object in mem::take(&mut self.dirty.contexts) {
            self.dirty.reports.insert(object.clone());
            for user in self.context_users.of(&object.name) {
                self.dirty.look_again(user);
            }
            let with_tcp = self
                .sockets
                .iter()
                .filter(|(_, socket)| !socket.tcp.is_empty());
            self.dirty.sockets.extend(with_tcp.map(|(key, _)| *key));
            let Some(context) = self
                .contexts
                .get(&object)
                .map(|state| state.context.clone())
            else {
                self.set_trust(&object, None);
                continue;
            };
            let certificate = context.certificate.as_ref();
            let certificate = certificate.map(|name| self.certificate("spec.secret", name));
            let own = context.certificate.as_ref();
            let root = own
                .and_then(|name| self.secrets.get(name))
                .and_then(|secret| secret.root.clone());
            let trusted = self.link_trust(&object, "spec.", &context.settings, root.as_ref());
            let found = match (certificate.transpose(), trusted) {
                (Ok(certificate), Ok(trusted)) => Ok(Found {
                    certificate,
                    trusted,
                }),
                (one, other) => Err(one.err().into_iter().chain(other.err()).collect()),
            };
            if let Some(state) = self.contexts.get_mut(&object) {
                state.found = found;
            }
        }
    }

    /// The TLSContext of this name: that of the same namespace, or else the first of any. An error: there is one, and
    /// it is not in order; what it asks for is not known then.
    pub(super) fn context(&self, name: &Name) -> Option<Result<&ContextState, String>> {
        self.own_context(name).or_else(|| {
            let first = ObjectRef::new(Kind::TlsContext, "", &name.name);
            let is_it =
                |object: &ObjectRef| object.kind == Kind::TlsContext && object.name == name.name;
            let mut known = self.contexts.range(first.clone()..);
            match known.next().filter(|(object, _)| is_it(object)) {
                Some((_, state)) => Some(Ok(state)),
                None => {
                    let (object, _) = self.objects.range(first..).next()?;
                    is_it(object).then(|| Err(REFUSED.to_owned()))
                }
            }
        })
    }

    /// The TLSContext of this name in its own namespace only.
    pub(super) fn own_context(&self, name: &Name) -> Option<Result<&ContextState, String>> {
        let own = ObjectRef::new(Kind::TlsContext, &name.namespace, &name.name);
        match self.contexts.get(&own) {
            Some(state) => Some(Ok(state)),
            None => {
                let is_there = self.objects.contains_key(&own);
                is_there.then(|| Err(REFUSED.to_owned()))
            }
        }
    }

    pub(super) fn report_context(&self, object: &ObjectRef, report: &mut Report) {
        let Some(state) = self.contexts.get(object) else {
            return;
        };
        report
            .problems
            .extend(state.found.as_ref().err().into_iter().flatten().cloned());
        report.in_service = state.found.is_ok();
    }
}

fn secrets(context: &TlsContext) -> impl Iterator<Item = &Name> {
    let settings = &context.settings;
    [&context.certificate, &settings.trusted, &settings.revoked]
        .into_iter()
        .flatten()
}
