//! Level of Modules: the settings of the whole gateway, and what a change of them means for other objects.

use std::{
    collections::BTreeMap,
    mem,
    sync::{Arc, LazyLock},
};

use nuncio_ir::HttpFilter;

use super::Store;
use crate::{
    defaults::Defaults,
    object::ObjectRef,
    reconcile::{Module, Unusable},
    report::{Problem, Reason, Report},
};

/// The filters that only a Module adds, but for that of its script.
const FILTERS: [HttpFilter; 6] = [
    HttpFilter::GrpcHttp1Bridge,
    HttpFilter::GrpcWeb,
    HttpFilter::GrpcStats,
    HttpFilter::Compression,
    HttpFilter::Buffer,
    HttpFilter::Addresses,
];

/// Settings without a Module.
static BUILT_IN: LazyLock<Module> = LazyLock::new(Module::default);

/// Modules, of which the first is used. Reconcilers only let the one through that counts.
#[derive(Debug, Default)]
pub(super) struct Modules {
    modules: BTreeMap<ObjectRef, Arc<Module>>,
}

impl Modules {
    /// The Module that is used.
    pub(super) fn current(&self) -> Option<&ObjectRef> {
        self.modules.keys().next()
    }

    /// The settings that hold.
    pub(super) fn settings(&self) -> &Module {
        self.modules
            .values()
            .next()
            .map_or_else(|| &*BUILT_IN, AsRef::as_ref)
    }
}

impl Store {
    pub(super) fn set_module(&mut self, object: &ObjectRef, module: Option<Arc<Module>>) {
        let modules = &mut self.modules.modules;
        match module {
            Some(module) => modules.insert(object.clone(), module),
            None => modules.remove(object),
        };
        self.dirty.reports.insert(object.clone());
        self.dirty
            .reports
            .extend(self.modules.modules.keys().cloned());
        self.dirty.modules = true;
    }

    /// Takes over the settings of the Module that is used, and marks what depends on those that differ. The resolver that it
    /// names may be another one, too.
    pub(super) fn link_modules(&mut self) {
        let is_changed = mem::take(&mut self.dirty.modules);
        let names_resolver = self.modules.settings().resolver.is_some();
        if !is_changed && (!names_resolver || self.dirty.resolvers.is_empty()) {
            return;
        }
        let settings = self.modules.settings().clone();
        for filter in FILTERS {
            match settings.filters.get(&filter) {
                Some(Some(found)) => self.set_filter(&filter, Some(found.clone())),
                Some(None) => self.use_filter(filter, true),
                None if filter.is_resource() => self.set_filter(&filter, None),
                None => self.use_filter(filter, false),
            }
        }
        self.set_filter(&HttpFilter::Lua, settings.script_filter());
        self.limit_regexes(settings.regex_max_size);
        self.dirty.probes |= is_changed;
        self.dirty.shared_options |= is_changed;
        let defaults = Defaults {
            resolver: match settings.resolver {
                Some(name) if self.resolvers.get(&name).is_some() => name,
                _ => settings.defaults.resolver,
            },
            ..settings.defaults
        };
        let old = mem::replace(&mut self.defaults, defaults);
        if old != self.defaults {
            self.default_changed(&old);
        }
        self.dirty.reports.extend(self.modules.current().cloned());
    }

    /// Marks what depends on the defaults that differ: clusters are made by Mappings, routes by their groups.
    fn default_changed(&mut self, old: &Defaults) {
        if !self.defaults.has_same_clusters(old) {
            self.dirty.mappings.extend(self.mappings.objects().cloned());
            self.dirty
                .tcp_mappings
                .extend(self.tcp_mappings.objects().cloned());
            self.link_all_edge_services_again();
        }
        if self.defaults.resolver != old.resolver {
            self.default_resolver_changed();
        }
        if !self.defaults.has_same_routes(old) {
            let mappings = self.mappings.objects();
            let grouped =
                mappings.filter_map(|object| Some((self.mappings.group(object)?, object)));
            for (group, object) in grouped {
                self.dirty.group_member(group, object);
            }
        }
        if self.defaults.secrets_have_namespaces != old.secrets_have_namespaces {
            self.update_tls_contexts();
        }
        self.dirty.probes = true;
        self.auth_services.changed = true;
        self.rate_limit_services.changed = true;
        if old.error_bodies != self.defaults.error_bodies {
            self.note_all_error_overrides();
        }
    }

    pub(super) fn report_module(&self, object: &ObjectRef, report: &mut Report) {
        report.in_service = self.modules.current() == Some(object);
        if !report.in_service {
            return;
        }
        report.problems.extend(self.probes.problems().cloned());
        if let Err(unusable) = &self.modules.settings().script {
            report.problems.push(unusable_script(unusable));
        }
        if let Some(name) = &self.modules.settings().resolver
            && self.resolvers.get(name).is_none()
        {
            let message = format!("resolver {name:?} does not exist; using kubernetes-service");
            let path = "spec.config.resolver";
            let problem = Problem::unresolved(Reason::RESOLVER_NOT_FOUND, path, message);
            report.problems.push(problem);
        }
    }
}

/// What is served instead of a script that cannot be used.
fn unusable_script(script: &Unusable<Option<String>>) -> Problem {
    let outcome = match &script.last {
        Some(Some(_)) => "using the last script without an error",
        Some(None) => "not served",
        None => "requests get 503 until it is fixed",
    };
    let message = format!("{}; {outcome}", script.reason);
    Problem::ignored(
        Reason::PARTIALLY_INVALID,
        "spec.config.lua_scripts",
        message,
    )
}
