//! Level of reports: what there is to say about each object, from what its reconciler and the levels have found.

use std::{mem, sync::Arc};

use jiff::Timestamp;

use super::Store;
use crate::{
    object::{Kind, ObjectRef},
    report::{Problem, Reason, Report},
};

impl Store {
    /// Reports that differ from before, and those of objects that were applied.
    pub(super) fn link_reports(&mut self) -> Vec<(ObjectRef, Option<Arc<Report>>)> {
        let applied = mem::take(&mut self.dirty.applied);
        let mut dirty = mem::take(&mut self.dirty.reports);
        dirty.extend(applied.iter().cloned());
        let mut told = Vec::new();
        for object in dirty {
            if !self.objects.contains_key(&object) {
                if self.reports.remove(&object).is_some() {
                    told.push((object, None));
                }
                continue;
            }
            let report = Arc::new(self.report(&object));
            let same = self.reports.get(&object) == Some(&report);
            if !same {
                self.reports.insert(object.clone(), report.clone());
            }
            if !same || applied.contains(&object) {
                told.push((object, Some(report)));
            }
        }
        told
    }

    fn report(&self, object: &ObjectRef) -> Report {
        let Some(known) = self.objects.get(object) else {
            return Report::default();
        };
        let mut report = Report {
            generation: known.generation,
            problems: known.problems.clone(),
            in_service: false,
            summary: String::new(),
        };
        match object.kind {
            Kind::Listener => self.report_listener(object, &mut report),
            Kind::Host => self.report_host(object, &mut report),
            Kind::Mapping => self.report_mapping(object, &mut report),
            Kind::TcpMapping => self.report_tcp_mapping(object, &mut report),
            Kind::TlsContext => self.report_context(object, &mut report),
            Kind::KubernetesServiceResolver
            | Kind::KubernetesEndpointResolver
            | Kind::Service
            | Kind::EndpointSlice
            | Kind::Secret
            | Kind::Namespace
            | Kind::Document => {
                report.in_service = known.fragment.is_some();
            }
        }
        report.problems.sort();
        report.problems.dedup();
        report
    }

    fn report_listener(&self, object: &ObjectRef, report: &mut Report) {
        let Some(socket) = self
            .listeners
            .get(object)
            .and_then(|listener| self.sockets.get(&listener.key))
        else {
            return;
        };
        report.problems.extend(
            socket
                .link
                .problems
                .get(object)
                .into_iter()
                .flatten()
                .cloned(),
        );
        report.in_service = socket.claims.first() == Some(object) && socket.link.listener.is_some();
        if report.in_service {
            report.summary = count(socket.link.hosts.len(), "Host");
        }
    }

    fn report_host(&self, object: &ObjectRef, report: &mut Report) {
        let Some(state) = self.hosts.get(object) else {
            return;
        };
        report.problems.extend(state.problems.iter().cloned());
        for socket in self.sockets.values() {
            report.problems.extend(
                socket
                    .link
                    .problems
                    .get(object)
                    .into_iter()
                    .flatten()
                    .cloned(),
            );
        }
        let tables = self.tables_of_host.get(object);
        report.in_service = tables.is_some();
        if let Some(tables) = tables {
            let mut places: Vec<String> = tables
                .iter()
                .map(|table| {
                    let tls = if table.server_name.is_some() {
                        " with TLS"
                    } else {
                        ""
                    };
                    format!("{}{tls}", table.listener)
                })
                .collect();
            places.dedup();
            report.summary = format!("on {}", places.join(", "));
            if let Some(until) = self.certificate_until(object) {
                report
                    .summary
                    .push_str(&format!(", certificate until {until}"));
            }
        } else {
            report.problems.push(problem(
                Reason::NO_LISTENER,
                "no Listener serves this Host, so nothing of it is reachable; check hostBinding and securityModel of the Listeners, and the TLS of this Host",
            ));
        }
    }

    /// The day on which a Host's certificate expires.
    fn certificate_until(&self, host: &ObjectRef) -> Option<String> {
        let tls = self.hosts.get(host)?.tls.as_ref()?.as_ref().ok()?;
        let not_after = self.certificate_not_after(&tls.secret)?;
        let time = Timestamp::from_second(not_after).ok()?;
        Some(time.strftime("%Y-%m-%d").to_string())
    }

    fn report_mapping(&self, object: &ObjectRef, report: &mut Report) {
        let Some(state) = self.mappings.get(object) else {
            return;
        };
        report.problems.extend(state.problems.iter().cloned());
        let Some((key, group)) = state
            .group
            .as_ref()
            .and_then(|key| self.groups.get_key_value(key))
        else {
            return;
        };
        report
            .problems
            .extend(group.problems.get(object).into_iter().flatten().cloned());
        let served = group
            .hosts
            .iter()
            .filter(|host| self.tables_of_host.contains_key(host))
            .count();
        report.in_service = served > 0 && !group.idle.contains(object);
        if group.hosts.is_empty() {
            report.problems.push(problem(
                Reason::NO_MATCHING_HOST,
                "no Host takes this Mapping, so nothing of it is reachable; give it a hostname that fits one, or the labels that a mappingSelector asks for",
            ));
        } else if served == 0 {
            report.problems.push(problem(
                Reason::NO_LISTENER,
                &format!(
                    "no Listener serves {}, so nothing of this Mapping is reachable",
                    self.some(&group.hosts)
                ),
            ));
        } else {
            report.summary = format!("attached to {}", self.some(&group.hosts));
            report.problems.extend(self.shadowed(key, group));
        }
    }

    /// One by name, several by number.
    #[expect(clippy::unused_self, reason = "reads like the others")]
    fn some(&self, hosts: &std::collections::BTreeSet<ObjectRef>) -> String {
        match hosts.first() {
            Some(only) if hosts.len() == 1 => only.to_string(),
            _ => count(hosts.len(), "Host"),
        }
    }
}

fn problem(reason: Reason, message: &str) -> Problem {
    Problem::ignored(reason, String::new(), message.to_owned())
}

fn count(number: usize, what: &str) -> String {
    let plural = if number == 1 { "" } else { "s" };
    format!("{number} {what}{plural}")
}
