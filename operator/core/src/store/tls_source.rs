//! Where TLSContexts come from: objects, or else blocks of the Module `tls`. And whether names of their Secrets can have a
//! namespace, which a Module decides where they do not.

use std::{collections::BTreeMap, sync::Arc};

use super::Store;
use crate::{
    object::{Kind, ObjectRef},
    reconcile::{
        Fragment, TlsContext,
        module::tls::{Contexts, in_module},
    },
    report::{Problem, Reason, Report},
};

/// What Modules say about TLSContexts.
#[derive(Debug, Default)]
pub(super) struct TlsSource {
    /// Those that Modules yield, with the Module; `None`: one that is invalid.
    yielded: BTreeMap<ObjectRef, (ObjectRef, Option<Arc<TlsContext>>)>,
}

impl TlsSource {
    /// The Module that yields a TLSContext of this name.
    pub(super) fn module(&self, context: &ObjectRef) -> Option<&ObjectRef> {
        self.yielded.get(context).map(|(module, _)| module)
    }

    /// The TLSContexts that a Module yields.
    fn of<'a>(&'a self, module: &'a ObjectRef) -> impl Iterator<Item = &'a ObjectRef> {
        let yielded = self.yielded.iter();
        yielded
            .filter(move |(_, (of, _))| of == module)
            .map(|(context, _)| context)
    }
}

impl Store {
    /// Whether there is a TLSContext, valid or not.
    pub(super) fn has_tls_context(&self, object: &ObjectRef) -> bool {
        self.objects.has(object) || self.tls_source.yielded.contains_key(object)
    }

    /// The object that a TLSContext is made of.
    pub(super) fn tls_context_owner<'a>(&'a self, context: &'a ObjectRef) -> &'a ObjectRef {
        let module = self.tls_source.module(context);
        match module {
            Some(module) if !self.objects.has(context) => module,
            _ => context,
        }
    }

    /// Hands a TLSContext to its level, as it is now; an object comes before the block of a Module.
    pub(super) fn update_tls_context(&mut self, object: &ObjectRef) {
        let context = match self.objects.get(object).map(|found| &found.fragment) {
            Some(Some(Fragment::TlsContext(context))) => Some(context),
            Some(_) => None,
            None => {
                let yielded = self.tls_source.yielded.get(object);
                yielded.and_then(|(_, context)| context.as_ref())
            }
        };
        let context = context.map(|context| match &context.in_own_namespace {
            Some(own) if !self.defaults.secrets_have_namespaces => own.clone(),
            _ => context.clone(),
        });
        self.set_tls_context(object, context);
    }

    /// Sets the TLSContexts that a Module yields; `None`: there is no such Module any more.
    pub(super) fn set_tls_module(&mut self, module: &ObjectRef, contexts: Option<&Contexts>) {
        let old: Vec<ObjectRef> = self.tls_source.of(module).cloned().collect();
        for object in &old {
            self.tls_source.yielded.remove(object);
        }
        let named = |name: &Arc<str>| ObjectRef::new(Kind::TlsContext, &module.namespace, name);
        let new = contexts.into_iter().flatten();
        let new = new.map(|(name, context)| (named(name), (module.clone(), context.clone())));
        self.tls_source.yielded.extend(new);
        let new: Vec<ObjectRef> = self.tls_source.of(module).cloned().collect();
        for object in old.into_iter().chain(new) {
            if !self.objects.has(&object) {
                self.update_tls_context(&object);
            }
        }
        self.dirty.reports.insert(module.clone());
    }

    /// Names of Secrets can have a namespace now, or cannot any more.
    pub(super) fn update_tls_contexts(&mut self) {
        let objects = self.objects.of_kind(Kind::TlsContext);
        let all: Vec<ObjectRef> = objects
            .chain(self.tls_source.yielded.keys())
            .cloned()
            .collect();
        for object in all {
            self.update_tls_context(&object);
        }
    }

    /// Reports the TLSContexts that a Module yields.
    pub(super) fn report_tls_module(&self, module: &ObjectRef, report: &mut Report) {
        report.in_service = true;
        for object in self.tls_source.of(module) {
            let name = &object.name;
            if self.objects.has(object) {
                let path = format!("spec.config.{name}");
                let message = format!("{object} exists; ignored");
                report
                    .problems
                    .push(Problem::ignored(Reason::DUPLICATE, path, message));
                continue;
            }
            let mut found = Report::default();
            self.report_tls_context(object, &mut found);
            let problems = found.problems.into_iter();
            report
                .problems
                .extend(problems.map(|problem| in_module(name, problem)));
        }
    }
}
