//! An Ingress of Knative (`networking.internal.knative.dev/v1alpha1`), field by field: nothing but its own controller checks
//! what it has. The Store generates Hosts and Mappings from what is read here, because named ports are those of Services.
//!
//! What is wrong at a field is reported there. A split that is invalid is left to the others of its path; requests of a path
//! without any other get 503. A path whose conditions are invalid is not served.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::{
    Backend, Found, Fragment, KnativeIngress, KnativePath, KnativeRule, KnativeSplit, KnativeTls,
    Port, duration, ignored, is_header_name, not_served, parse, replaced, without_effect,
};
use crate::{
    object::Kind,
    report::{Problem, Reason},
};

/// Annotations with the class, of older and newer versions of Knative.
const CLASSES: [&str; 2] = [
    "networking.knative.dev/ingress.class",
    "networking.knative.dev/ingress-class",
];
/// Their value for our Ingresses.
const OWN: &str = "ambassador.ingress.networking.knative.dev";
/// Time for a response, if a path sets none.
const TIMEOUT: &str = "15s";
/// Most Mappings of an Ingress. There is one for each host and split of a rule, which is more than its size.
const MAPPINGS: usize = 2000;
/// Outcome of a condition that is invalid: without it the path would match more.
const PATH: &str = "this path is not served";
/// Outcome of what decides where and how requests are sent.
const CLOSED: &str = "requests get 503";

pub(super) fn reconcile(value: &Value, metadata: &parse::Metadata) -> Found {
    let annotations = &value["metadata"]["annotations"];
    let of_others = |name: &str| {
        let class = annotations[name].as_str();
        class.is_some_and(|class| !class.eq_ignore_ascii_case(OWN))
    };
    if CLASSES.into_iter().any(of_others) {
        return (None, Vec::new());
    }
    let spec = &value["spec"];
    let invalid = |path: &str, fact: &str| {
        let problem = not_served(Kind::KnativeIngress, path, fact);
        (None, vec![problem])
    };
    if spec.is_null() {
        return invalid("spec", "spec is missing");
    }
    if !spec.is_object() {
        return invalid("spec", "must be a map");
    }
    if !matches!(spec["rules"], Value::Null | Value::Array(_)) {
        return invalid("spec.rules", "must be a list");
    }
    let mut reader = Reader::default();
    let rules: Vec<_> = reader
        .list("spec.rules", &spec["rules"])
        .map(|(at, rule)| reader.rule(&at, rule))
        .collect();
    let is_redirected = match &spec["httpOption"] {
        Value::Null => false,
        Value::String(text) if text.is_empty() || text == "Enabled" => false,
        Value::String(text) if text == "Redirected" => true,
        _ => {
            let fact = "must be Enabled or Redirected";
            let problem = replaced("spec.httpOption", fact, "Redirected");
            reader.problems.push(problem);
            true
        }
    };
    let tls = reader.all_tls(&spec["tls"], &rules);
    if reader.mappings == 0 && reader.problems.is_empty() {
        let fact = "no rule has a host and a path; nothing is served";
        reader.warn("spec.rules", fact.to_owned());
    }
    let ingress = KnativeIngress {
        labels: metadata.labels.clone(),
        tls,
        is_redirected,
        rules,
    };
    let fragment = Fragment::KnativeIngress(ingress.into());
    (Some(fragment), reader.problems)
}

/// What is read so far.
#[derive(Default)]
struct Reader {
    problems: Vec<Problem>,
    /// Mappings of the rules so far.
    mappings: usize,
}

impl Reader {
    fn ignore(&mut self, at: impl Into<String>, fact: &str) {
        self.problems.push(ignored(at, fact));
    }

    /// Reports what is wrong at a field, with an outcome.
    fn warn(&mut self, at: impl Into<String>, message: String) {
        let problem = Problem::ignored(Reason::PARTIALLY_INVALID, at, message);
        self.problems.push(problem);
    }

    /// The items of a list, with their paths.
    fn list<'v>(
        &mut self,
        at: &str,
        value: &'v Value,
    ) -> impl Iterator<Item = (String, &'v Value)> + use<'v> {
        if !matches!(value, Value::Null | Value::Array(_)) {
            self.ignore(at, "must be a list");
        }
        let at = at.to_owned();
        let items = value.as_array().into_iter().flatten().enumerate();
        items.map(move |(index, item)| (format!("{at}[{index}]"), item))
    }

    /// A text; the empty one is none.
    ///
    /// # Errors
    /// It is something else, which is reported.
    fn text(&mut self, at: &str, value: &Value, outcome: &str) -> Result<Option<String>, ()> {
        match value {
            Value::Null => Ok(None),
            Value::String(text) => Ok(Some(text.clone()).filter(|text| !text.is_empty())),
            _ => {
                self.warn(at, format!("must be a string; {outcome}"));
                Err(())
            }
        }
    }

    /// A rule; `None` for one that is not served.
    fn rule(&mut self, at: &str, rule: &Value) -> Option<KnativeRule> {
        if !rule.is_object() {
            self.ignore(at, "must be a map");
            return None;
        }
        let is_local = match &rule["visibility"] {
            Value::Null => false,
            Value::String(text) if text.is_empty() || text == "ExternalIP" => false,
            Value::String(text) if text == "ClusterLocal" => true,
            _ => {
                let at = format!("{at}.visibility");
                let fact = "must be ExternalIP or ClusterLocal";
                self.problems.push(replaced(at, fact, "ClusterLocal"));
                true
            }
        };
        let mut known = BTreeSet::new();
        let hosts: Vec<_> = self
            .list(&format!("{at}.hosts"), &rule["hosts"])
            .map(|(at, host)| self.host(at, host, &mut known))
            .collect();
        let paths: Vec<_> = self
            .list(&format!("{at}.http.paths"), &rule["http"]["paths"])
            .filter_map(|(at, path)| self.path(&at, path))
            .collect();
        let splits: usize = paths.iter().map(|path| path.splits.len()).sum();
        let mappings = hosts.len().saturating_mul(splits);
        let all = self.mappings.saturating_add(mappings);
        if all > MAPPINGS {
            let fact = format!(
                "an Ingress can have {MAPPINGS} combinations of hosts and splits; with the {mappings} of this rule it has {all}"
            );
            self.ignore(at, &fact);
            return None;
        }
        self.mappings = all;
        Some(KnativeRule {
            hosts,
            is_local,
            paths,
        })
    }

    /// A host; `None` for one that is not served.
    fn host(&mut self, at: String, host: &Value, known: &mut BTreeSet<String>) -> Option<String> {
        let host = host.as_str().map(str::to_ascii_lowercase);
        let Some(host) = host.filter(|host| is_dns_name(host)) else {
            self.ignore(at, "must be a DNS name");
            return None;
        };
        if !known.insert(host.clone()) {
            self.ignore(at, &format!("duplicate host {host:?}"));
            return None;
        }
        Some(host)
    }

    /// A path; `None` for one that is not served, because what it matches is not known.
    fn path(&mut self, at: &str, path: &Value) -> Option<KnativePath> {
        if !path.is_object() {
            self.ignore(at, "must be a map");
            return None;
        }
        let prefix = self.text(&format!("{at}.path"), &path["path"], PATH).ok()?;
        let headers = self.conditions(&format!("{at}.headers"), &path["headers"])?;
        // what is sent must not differ from what was meant
        let rewrite_host = self.text(&format!("{at}.rewriteHost"), &path["rewriteHost"], CLOSED);
        let is_usable = rewrite_host.is_ok();
        let at_timeout = format!("{at}.timeout");
        let timeout = match self.text(&at_timeout, &path["timeout"], "using 15s") {
            Ok(Some(text)) => self.timeout(&at_timeout, &text),
            Ok(None) | Err(()) => self.timeout(&at_timeout, TIMEOUT),
        };
        if !path["retries"].is_null() {
            let at = format!("{at}.retries");
            let message = format!("{at} has no effect");
            self.problems.push(without_effect(at, message));
        }
        let added = self.added(&format!("{at}.appendHeaders"), &path["appendHeaders"]);
        let at_splits = format!("{at}.splits");
        let mut splits: Vec<_> = self
            .list(&at_splits, &path["splits"])
            .filter_map(|(at, split)| self.split(at, split, &added))
            .collect();
        let sum: u32 = splits.iter().map(|split| split.percent).sum();
        if sum == 0 {
            let fact = "no split has a serviceName and a percent above 0";
            self.warn(&at_splits, format!("{fact}; {CLOSED}"));
            splits = vec![KnativeSplit::unusable(at_splits)];
        } else if sum != 100 {
            let fact = format!("the percents add up to {sum}, not 100");
            let problem = replaced(&at_splits, fact, "them in proportion");
            self.problems.push(problem);
            scale(&mut splits, sum);
        }
        if !is_usable {
            for split in &mut splits {
                split.backend = None;
            }
        }
        Some(KnativePath {
            path: prefix.unwrap_or_else(|| "/".to_owned()),
            headers,
            rewrite_host: rewrite_host.unwrap_or_default(),
            timeout,
            splits,
        })
    }
    /// `headers`: exact values by name. `None`: what is invalid could only be served with a condition less.
    fn conditions(&mut self, at: &str, headers: &Value) -> Option<BTreeMap<String, String>> {
        let fields = match headers {
            Value::Null => return Some(BTreeMap::new()),
            Value::Object(fields) => fields,
            _ => {
                self.warn(at, format!("must be a map; {PATH}"));
                return None;
            }
        };
        let mut found = BTreeMap::new();
        for (name, value) in fields {
            let exact = value["exact"].as_str().filter(|exact| !exact.is_empty());
            let Some(exact) = exact.filter(|_| is_header_name(name)) else {
                let fact = "must be the name of a header with a non-empty exact value";
                self.warn(format!("{at}[{name}]"), format!("{fact}; {PATH}"));
                return None;
            };
            found.insert(name.clone(), exact.to_owned());
        }
        Some(found)
    }

    /// `appendHeaders`, over those of the path.
    fn added(&mut self, at: &str, headers: &Value) -> BTreeMap<String, String> {
        if !matches!(headers, Value::Null | Value::Object(_)) {
            self.ignore(at, "must be a map");
        }
        let mut found = BTreeMap::new();
        for (name, value) in headers.as_object().into_iter().flatten() {
            match value.as_str() {
                Some(value) => {
                    found.insert(name.to_ascii_lowercase(), value.to_owned());
                }
                None => self.ignore(format!("{at}[{name}]"), "must be a string"),
            }
        }
        found
    }

    fn timeout(&mut self, at: &str, text: &str) -> u64 {
        let found = duration::parse(text).or_else(|fact| {
            self.problems.push(replaced(at, fact, TIMEOUT));
            duration::parse(TIMEOUT)
        });
        let milliseconds = found.unwrap_or_default().as_micros().div_ceil(1000);
        u64::try_from(milliseconds).unwrap_or_default()
    }

    /// A split; `None` for one that gets no requests.
    fn split(
        &mut self,
        at: String,
        split: &Value,
        common: &BTreeMap<String, String>,
    ) -> Option<KnativeSplit> {
        if !split.is_object() {
            self.ignore(at, "must be a map");
            return None;
        }
        if matches!(&split["serviceName"], Value::Null) || split["serviceName"] == "" {
            self.ignore(format!("{at}.serviceName"), "serviceName is missing");
            return None;
        }
        let percent = match &split["percent"] {
            Value::Null => Some(100),
            percent => percent.as_u64().and_then(|percent| percent.try_into().ok()),
        };
        let Some(percent @ 0..=100) = percent else {
            let fact = "must be an integer from 0 to 100";
            self.ignore(format!("{at}.percent"), fact);
            return None;
        };
        let name = self.name(&format!("{at}.serviceName"), &split["serviceName"]);
        let at_namespace = format!("{at}.serviceNamespace");
        let namespace = match &split["serviceNamespace"] {
            Value::Null => Some(None),
            Value::String(text) if text.is_empty() => Some(None),
            namespace => self.name(&at_namespace, namespace).map(Some),
        };
        let port = self.port(&format!("{at}.servicePort"), &split["servicePort"]);
        let backend = name.zip(port).filter(|_| namespace.is_some());
        let backend = backend.map(|(service, port)| Backend { service, port });
        let mut headers = common.clone();
        headers.extend(self.added(&format!("{at}.appendHeaders"), &split["appendHeaders"]));
        Some(KnativeSplit {
            backend,
            namespace: namespace.flatten(),
            percent,
            headers,
            at,
        })
    }

    /// A name of a Service or Namespace.
    fn name(&mut self, at: &str, name: &Value) -> Option<String> {
        let name = name.as_str().filter(|name| is_label(name));
        if name.is_none() {
            self.unusable(at, "must be a DNS label");
        }
        name.map(str::to_owned)
    }

    /// A port, by number or name.
    fn port(&mut self, at: &str, port: &Value) -> Option<Port> {
        let found = match port {
            Value::Null => Some(Port::Number(80)),
            Value::String(text) => match text.parse::<u64>() {
                Ok(number) => numbered(Some(number)),
                Err(_source) if text.is_empty() => Some(Port::Number(80)),
                Err(_source) => is_label(text).then(|| Port::Name(text.clone())),
            },
            number => numbered(number.as_u64()),
        };
        if found.is_none() {
            self.unusable(at, "must be from 1 to 65535 or the name of a port");
        }
        found
    }

    /// Reports what makes a split unusable.
    fn unusable(&mut self, at: &str, fact: &str) {
        self.warn(at, format!("{fact}; requests of this split get 503"));
    }

    /// Certificates, of hosts that clients outside the cluster use.
    fn all_tls(&mut self, tls: &Value, rules: &[Option<KnativeRule>]) -> Vec<KnativeTls> {
        let rules = rules.iter().flatten().filter(|rule| !rule.is_local);
        let mut left: BTreeSet<&str> = rules
            .flat_map(|rule| rule.hosts.iter().flatten())
            .map(String::as_str)
            .collect();
        self.list("spec.tls", tls)
            .filter_map(|(at, tls)| self.tls(&at, tls, &mut left))
            .collect()
    }

    /// A certificate for hosts that have none yet.
    fn tls(&mut self, at: &str, tls: &Value, left: &mut BTreeSet<&str>) -> Option<KnativeTls> {
        if !tls.is_object() {
            self.ignore(at, "must be a map");
            return None;
        }
        let at_secret = format!("{at}.secretName");
        let secret = self.text(&at_secret, &tls["secretName"], "ignored").ok()?;
        if secret.is_none() {
            self.ignore(at_secret, "secretName is missing");
        }
        let at_namespace = format!("{at}.secretNamespace");
        let namespace = self
            .text(&at_namespace, &tls["secretNamespace"], "ignored")
            .ok()?;
        let hosts: Vec<Option<String>> = match tls["hosts"].as_array() {
            Some(hosts) if hosts.is_empty() => all(left),
            None if tls["hosts"].is_null() => all(left),
            _ => {
                let hosts = self.list(&format!("{at}.hosts"), &tls["hosts"]);
                hosts
                    .map(|(at, host)| self.tls_host(at, host, left))
                    .collect()
            }
        };
        Some(KnativeTls {
            secret: secret?,
            namespace,
            hosts,
        })
    }

    /// A host of a certificate; `None` for one that needs none, or has one.
    fn tls_host(&mut self, at: String, host: &Value, left: &mut BTreeSet<&str>) -> Option<String> {
        let name = host.as_str().map(str::to_ascii_lowercase);
        let Some(name) = name else {
            self.ignore(at, "must be a string");
            return None;
        };
        if !left.remove(name.as_str()) {
            let message =
                "no rule with visibility ExternalIP has this host without a certificate; ignored";
            self.problems.push(without_effect(at, message));
            return None;
        }
        Some(name)
    }
}

/// All hosts, which have a certificate then.
fn all(left: &mut BTreeSet<&str>) -> Vec<Option<String>> {
    let hosts = std::mem::take(left).into_iter();
    hosts.map(|host| Some(host.to_owned())).collect()
}

fn numbered(number: Option<u64>) -> Option<Port> {
    match number.and_then(|number| u16::try_from(number).ok()) {
        Some(number @ 1..) => Some(Port::Number(number)),
        _ => None,
    }
}

/// Makes percents add up to 100.
fn scale(splits: &mut [KnativeSplit], sum: u32) {
    let (mut before, mut given) = (0, 0);
    for split in splits {
        before += u64::from(split.percent);
        let end = u32::try_from(before * 100 / u64::from(sum)).unwrap_or(100);
        split.percent = end - given;
        given = end;
    }
}

fn is_label(text: &str) -> bool {
    let inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let ends = |text: &str| {
        let bytes = text.as_bytes();
        bytes.first().copied().is_some_and(inner) && bytes.last().copied().is_some_and(inner)
    };
    text.len() <= 63 && ends(text) && text.bytes().all(|byte| inner(byte) || byte == b'-')
}

fn is_dns_name(text: &str) -> bool {
    text.len() <= 253 && text.split('.').all(is_label)
}

#[cfg(test)]
mod tests;
