//! Level of TLSContexts: the secrets they name, and what follows for whoever refers to them.

use std::{mem, sync::Arc};

use nuncio_xds::{
    Unit,
    ir::{self, ClientTls, SecretContent, ServerTls},
};

use super::Store;
use crate::{
    object::{Kind, ObjectRef},
    reconcile::{Name, TlsContext},
    report::{ConditionType, Problem, Severity},
};

/// A TLSContext with what follows from its secrets.
#[derive(Debug)]
pub(super) struct ContextState {
    pub(super) context: Arc<TlsContext>,
    /// TLS to upstreams, or why there is none.
    pub(super) client: Result<ClientTls, String>,
    /// TLS from clients, or why there is none.
    pub(super) server: Result<ServerTls, String>,
    pub(super) problems: Vec<Problem>,
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
            let not_linked = || "it has not been looked at yet".to_owned();
            self.contexts.insert(
                object.clone(),
                ContextState {
                    context,
                    client: Err(not_linked()),
                    server: Err(not_linked()),
                    problems: Vec::new(),
                },
            );
        }
        self.dirty.contexts.insert(object.clone());
    }

    pub(super) fn link_contexts(&mut self) {
        for object in mem::take(&mut self.dirty.contexts) {
            self.dirty.reports.insert(object.clone());
            let users = self.context_users.of(&object.name);
            self.dirty.mappings.extend(
                users
                    .clone()
                    .filter(|user| user.kind == Kind::Mapping)
                    .cloned(),
            );
            self.dirty
                .tcp_mappings
                .extend(users.filter(|user| user.kind == Kind::TcpMapping).cloned());
            let with_tcp = self
                .sockets
                .iter()
                .filter(|(_, socket)| !socket.tcp.is_empty());
            self.dirty.sockets.extend(with_tcp.map(|(key, _)| *key));
            let context = self
                .contexts
                .get(&object)
                .map(|state| state.context.clone());
            let trusted = context
                .as_deref()
                .map(|context| self.trusted(&object, context));
            let resource: Arc<str> = trusted_name(&object).into();
            let (trust, trust_problems) = match trusted {
                Some(Ok(Some(secret))) => (Some(secret), Vec::new()),
                Some(Err(problem)) => (None, vec![problem]),
                Some(Ok(None)) | None => (None, Vec::new()),
            };
            let has_trust = trust.is_some();
            let changed = match trust.map(Arc::new) {
                Some(secret) => {
                    self.ir.secrets.insert(resource.clone(), secret.clone()) != Some(secret)
                }
                None => self.ir.secrets.remove(&resource).is_some(),
            };
            if changed {
                self.dirty.units.insert(Unit::Secret(resource.clone()));
            }
            let Some(context) = context else { continue };
            let mut problems = trust_problems;
            let certificate = context
                .certificate
                .as_ref()
                .map(|name| self.certificate(name));
            if let Some(Err(problem)) = &certificate {
                problems.push(problem.clone());
            }
            let flaw = problems.first().map(|problem| problem.message.clone());
            let certificate = certificate.and_then(Result::ok);
            let trusted = has_trust.then(|| resource.clone());
            let client = match &flaw {
                Some(flaw) => Err(flaw.clone()),
                None => Ok(ClientTls {
                    certificate: certificate.clone(),
                    trusted: trusted.clone(),
                    server_name: context.server_name.clone(),
                    alpn: context.alpn.clone(),
                    parameters: context.parameters.clone(),
                }),
            };
            let server = server(&context, flaw, certificate, trusted);
            if let Some(state) = self.contexts.get_mut(&object) {
                state.client = client;
                state.server = server;
                state.problems = problems;
            }
        }
    }

    /// The TLSContext of this name: that of the same namespace, or else the first of any.
    pub(super) fn context(&self, name: &Name) -> Option<&ContextState> {
        let own = ObjectRef::new(Kind::TlsContext, &name.namespace, &name.name);
        if let Some(state) = self.contexts.get(&own) {
            return Some(state);
        }
        let first = ObjectRef::new(Kind::TlsContext, "", &name.name);
        let mut others = self.contexts.range(first..);
        let (found, state) = others.next()?;
        (found.name == name.name).then_some(state)
    }

    /// The resource of a Secret's certificate, if it is there and in order.
    pub(super) fn certificate(&self, name: &Name) -> Result<Arc<str>, Problem> {
        match self.secrets.get(name).map(|secret| &secret.certificate) {
            None => Err(not_found("spec.secret", name)),
            Some(Err(reason)) => Err(unusable("spec.secret", name, reason)),
            Some(Ok(_)) => Ok(name.to_string().into()),
        }
    }

    /// What peers are checked against.
    fn trusted(
        &self,
        object: &ObjectRef,
        context: &TlsContext,
    ) -> Result<Option<ir::Secret>, Problem> {
        let Some(name) = &context.trusted else {
            return Ok(None);
        };
        let secret = self
            .secrets
            .get(name)
            .ok_or_else(|| not_found("spec.ca_secret", name))?;
        let trusted = secret.trusted.as_ref();
        let trusted = trusted.map_err(|reason| unusable("spec.ca_secret", name, reason))?;
        let revoked = match &context.revoked {
            None => None,
            Some(name) => {
                let secret = self.secrets.get(name);
                let secret = secret.ok_or_else(|| not_found("spec.crl_secret", name))?;
                let revoked = secret.revoked.as_ref();
                Some(revoked.map_err(|reason| unusable("spec.crl_secret", name, reason))?)
            }
        };
        Ok(Some(ir::Secret {
            name: trusted_name(object).into(),
            content: SecretContent::Validation {
                trusted: trusted.clone(),
                revoked: revoked.cloned(),
            },
        }))
    }

    pub(super) fn report_context(&self, object: &ObjectRef, report: &mut crate::report::Report) {
        let Some(state) = self.contexts.get(object) else {
            return;
        };
        report.problems.extend(state.problems.iter().cloned());
        report.in_service = state.client.is_ok();
    }
}

fn server(
    context: &TlsContext,
    flaw: Option<String>,
    certificate: Option<Arc<str>>,
    trusted: Option<Arc<str>>,
) -> Result<ServerTls, String> {
    if let Some(flaw) = flaw {
        return Err(flaw);
    }
    if context.require_client_certificate && trusted.is_none() {
        return Err(
            "it requires certificates of clients and has no ca_secret to check them".to_owned(),
        );
    }
    Ok(ServerTls {
        secret: certificate.ok_or("it names no secret with a certificate")?,
        trusted,
        require_client_certificate: context.require_client_certificate,
        alpn: context.alpn.clone(),
        parameters: context.parameters.clone(),
    })
}

fn secrets(context: &TlsContext) -> impl Iterator<Item = &Name> {
    [&context.certificate, &context.trusted, &context.revoked]
        .into_iter()
        .flatten()
}

fn trusted_name(object: &ObjectRef) -> String {
    format!("tlscontext/{}/{}/trusted", object.namespace, object.name)
}

fn not_found(path: &str, name: &Name) -> Problem {
    problem(
        "SecretNotFound",
        path,
        format!(
            "there is no Secret {:?} in namespace {:?}",
            name.name, name.namespace
        ),
    )
}

fn unusable(path: &str, name: &Name, reason: &str) -> Problem {
    problem(
        "InvalidSecret",
        path,
        format!("Secret {name} cannot be used: {reason}"),
    )
}

fn problem(reason: &'static str, path: &str, message: String) -> Problem {
    Problem {
        severity: Severity::Warning,
        condition: ConditionType::ResolvedRefs,
        reason,
        path: path.to_owned(),
        message,
    }
}
