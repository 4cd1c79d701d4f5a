//! A gateway without I/O, from objects to snapshots, and the changes that are made to it, stage by stage.

use nuncio_core::{
    change::{self, Source},
    object::{Kind, ObjectRef},
    reconcile::reconcile,
    settings::Settings,
    store::{Outcome, Store},
};
use nuncio_xds::{
    Resource, ResourceType, Unit, cache::Update, quarantine::Culprits, render, render_all,
    resource::Ref, snapshot::Snapshot,
};
use serde_json::{Value, json};

const CERTIFICATE: &str = include_str!("../testdata/waiting/certificate.pem");
const KEY: &str = include_str!("../testdata/waiting/key.pem");

/// How often a change is made at most.
pub(crate) const ROUNDS: usize = 10;

/// Number of Mappings of a Host.
const MAPPINGS_OF_A_HOST: usize = 10;

/// How the Mappings are spread.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Layout {
    /// Ten on each Host, behind TLS.
    Tls,
    /// Ten on each Host, each of which has a table of its own on cleartext connections.
    Cleartext,
    /// All with `hostname: "*"`, on one Host.
    AnyHost,
}

impl Layout {
    pub(crate) const ALL: [Self; 3] = [Self::Tls, Self::Cleartext, Self::AnyHost];

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Tls => "TLS",
            Self::Cleartext => "cleartext",
            Self::AnyHost => "any host",
        }
    }
}

/// A change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Change {
    EditMapping,
    /// With a cluster of its own.
    AddMapping,
    DeleteMapping,
    AddHost,
    RemoveHost,
    Endpoints,
    Secret,
    Module,
}

impl Change {
    pub(crate) const ALL: [Self; 8] = [
        Self::EditMapping,
        Self::AddMapping,
        Self::DeleteMapping,
        Self::AddHost,
        Self::RemoveHost,
        Self::Endpoints,
        Self::Secret,
        Self::Module,
    ];

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::EditMapping => "edit a Mapping",
            Self::AddMapping => "add a Mapping",
            Self::DeleteMapping => "delete a Mapping",
            Self::AddHost => "add a Host",
            Self::RemoveHost => "remove a Host",
            Self::Endpoints => "change endpoints",
            Self::Secret => "change a Secret",
            Self::Module => "change a key of the Module",
        }
    }

    pub(crate) fn is_of(self, layout: Layout) -> bool {
        self != Self::Secret || layout == Layout::Tls
    }

    /// How often it is made.
    pub(crate) fn rounds(self, layout: Layout) -> usize {
        match self {
            // each is one of a table with all Mappings
            Self::AddHost | Self::RemoveHost if layout == Layout::AnyHost => 1,
            _ => ROUNDS,
        }
    }

    /// Whether it costs the same whatever the number of Mappings. It does not where
    ///
    /// - all Mappings are in one table;
    /// - behind TLS a listener has a chain for each Host, and on cleartext connections one table has the redirects of all
    ///   Hosts, if there are many of them;
    /// - linking goes through all tables of a listener, or through all Hosts that use a Secret.
    pub(crate) fn is_flat(self, layout: Layout) -> bool {
        match self {
            Self::Endpoints => true,
            Self::EditMapping => layout != Layout::AnyHost,
            Self::AddMapping | Self::DeleteMapping => layout == Layout::Cleartext,
            Self::Module => layout == Layout::AnyHost,
            Self::AddHost | Self::RemoveHost | Self::Secret => false,
        }
    }
}

/// An object that is applied or deleted.
pub(crate) enum Input {
    Apply(Kind, Value),
    Delete(Kind, String),
}

pub(crate) struct World {
    layout: Layout,
    size: usize,
    settings: Settings,
    store: Store,
    culprits: Culprits,
    snapshot: Snapshot,
}

impl World {
    pub(crate) fn new(layout: Layout, size: usize) -> Self {
        let settings = Settings {
            in_cluster: true,
            ..Settings::default()
        };
        let mut world = Self {
            layout,
            size,
            store: Store::new(settings.clone()),
            settings,
            culprits: Culprits::default(),
            snapshot: Snapshot::default(),
        };
        world.load();
        world
    }

    /// Everything that is there at first, with the Services of Mappings that come later.
    fn load(&mut self) {
        let numbers = || 0..self.size + ROUNDS;
        let hosts = 0..match self.layout {
            Layout::Tls | Layout::Cleartext => self.size / MAPPINGS_OF_A_HOST,
            Layout::AnyHost => 1,
        };
        let all = [
            (Kind::Module, vec![module("first")]),
            (Kind::Secret, vec![secret(0)]),
            (Kind::Listener, vec![self.listener()]),
            (Kind::Host, hosts.map(|number| self.host(number)).collect()),
            (Kind::Service, numbers().map(service).collect()),
            (
                Kind::EndpointSlice,
                numbers().map(|number| endpoint_slice(number, 0)).collect(),
            ),
            (
                Kind::Mapping,
                (0..self.size)
                    .map(|number| self.mapping(number, "/"))
                    .collect(),
            ),
        ];
        for (kind, objects) in all {
            let of_kind = |object| reconcile(kind, object, &self.settings);
            let all = objects.into_iter().map(of_kind).collect();
            let replace = change::Change::Replace(Source::Api, kind, all);
            self.store.apply(replace);
        }
        self.store.link();
        let first: Vec<Resource> = render_all(self.store.ir()).collect();
        self.snapshot = self
            .snapshot
            .next(&first, &[])
            .expect("the first snapshot differs from an empty one");
        let problems = self
            .store
            .reports()
            .iter()
            .find(|(_, report)| !report.is_clean());
        assert!(problems.is_none(), "{problems:?}");
    }

    /// What is applied or deleted for a change.
    pub(crate) fn input(&self, change: Change, round: usize) -> Input {
        let new = self.size + round;
        let old = (round * 7919) % self.size;
        match change {
            Change::EditMapping => {
                let rewrite = format!("/edit-{round}/");
                Input::Apply(Kind::Mapping, self.mapping(old, &rewrite))
            }
            Change::AddMapping => Input::Apply(Kind::Mapping, self.mapping(new, "/")),
            Change::DeleteMapping => Input::Delete(Kind::Mapping, format!("m-{new}")),
            Change::AddHost => Input::Apply(Kind::Host, self.host(new)),
            Change::RemoveHost => Input::Delete(Kind::Host, format!("host-{new}")),
            Change::Endpoints => Input::Apply(Kind::EndpointSlice, endpoint_slice(old, 1)),
            Change::Secret => Input::Apply(Kind::Secret, secret(round + 1)),
            Change::Module => Input::Apply(Kind::Module, module(&format!("round-{round}"))),
        }
    }

    /// Reconciles an object.
    pub(crate) fn reconcile(&self, input: Input) -> change::Change {
        match input {
            Input::Apply(kind, object) => {
                let reconciled = reconcile(kind, object, &self.settings);
                change::Change::Apply(Source::Api, Box::new(reconciled))
            }
            Input::Delete(kind, name) => {
                let object = ObjectRef::new(kind, "default", &name);
                change::Change::Delete(Source::Api, object)
            }
        }
    }

    /// Takes a change into the Store, and links.
    pub(crate) fn link(&mut self, change: change::Change) -> Outcome {
        self.store.apply(change);
        self.store.link()
    }

    /// The next snapshot.
    pub(crate) fn difference(&self, update: &Update) -> Snapshot {
        let next = self.snapshot.next(&update.upserts, &update.removals);
        next.expect("each change is one of resources")
    }

    /// Publishes a snapshot. Returns how many resources every Envoy is sent, and their bytes.
    pub(crate) fn publish(&mut self, next: Snapshot) -> (usize, usize) {
        let (mut resources, mut bytes) = (0, 0);
        for kind in ResourceType::ALL {
            let view = next.of(kind);
            let changed = view.changed_since(self.snapshot.seq);
            for name in changed.expect("the last change is in the log") {
                resources += 1;
                bytes += view.get(name).map_or(name.len(), |entry| entry.len());
            }
        }
        self.snapshot = next;
        (resources, bytes)
    }

    /// As the publish loop renders.
    pub(crate) fn render(&mut self, outcome: &Outcome) -> Update {
        let ir = self.store.ir();
        let mut update = Update::default();
        for unit in &outcome.units {
            let resource = match unit {
                Unit::RouteTable(key) => {
                    let table = ir.route_tables.get(key);
                    table.map(|table| self.culprits.resource(table))
                }
                _ => render(unit, ir),
            };
            match resource {
                Some(resource) => update.upserts.push(resource),
                None => {
                    let removal: Ref = (unit.kind(), unit.name());
                    update.removals.push(removal);
                }
            }
        }
        update
    }

    fn listener(&self) -> Value {
        let (port, protocol) = match self.layout {
            Layout::Tls => (8443, "HTTPS"),
            Layout::Cleartext | Layout::AnyHost => (8080, "HTTP"),
        };
        let all = json!({"namespace": {"from": "ALL"}});
        object(
            "listener",
            &json!({"port": port, "protocol": protocol, "securityModel": "XFP", "hostBinding": all}),
        )
    }

    fn hostname(&self, host: usize) -> String {
        match self.layout {
            Layout::AnyHost if host == 0 => "*".to_owned(),
            Layout::Tls | Layout::Cleartext | Layout::AnyHost => format!("host-{host}.example"),
        }
    }

    fn host(&self, number: usize) -> Value {
        let mut spec = json!({"hostname": self.hostname(number)});
        match self.layout {
            Layout::Tls => spec["tlsSecret"] = json!({"name": "certificate"}),
            Layout::Cleartext | Layout::AnyHost => {
                spec["requestPolicy"] = json!({"insecure": {"action": "Route"}});
            }
        }
        object(&format!("host-{number}"), &spec)
    }

    fn mapping(&self, number: usize, rewrite: &str) -> Value {
        let host = match self.layout {
            // new ones are on the last Host
            Layout::Tls | Layout::Cleartext => number.min(self.size - 1) / MAPPINGS_OF_A_HOST,
            Layout::AnyHost => 0,
        };
        let (prefix, service) = (format!("/m-{number}/"), format!("s-{number}"));
        object(
            &format!("m-{number}"),
            &json!({"hostname": self.hostname(host), "prefix": prefix, "service": service, "resolver": "endpoint", "rewrite": rewrite}),
        )
    }
}

fn object(name: &str, spec: &Value) -> Value {
    json!({"metadata": {"name": name, "namespace": "default"}, "spec": spec})
}

fn module(server_name: &str) -> Value {
    object(
        "ambassador",
        &json!({"config": {"server_name": server_name}}),
    )
}

/// The chain has so many more certificates.
fn secret(more: usize) -> Value {
    json!({
        "metadata": {"name": "certificate", "namespace": "default"},
        "type": "kubernetes.io/tls",
        "stringData": {"tls.crt": CERTIFICATE.repeat(1 + more % 2), "tls.key": KEY}
    })
}

fn service(number: usize) -> Value {
    let address = format!("10.96.{}.{}", number / 256, number % 256);
    object(
        &format!("s-{number}"),
        &json!({"clusterIP": address, "ports": [{"port": 80}]}),
    )
}

fn endpoint_slice(number: usize, last: u8) -> Value {
    let address = format!("10.{}.{}.{last}", 100 + number / 256, number % 256);
    json!({
        "metadata": {
            "name": format!("s-{number}"),
            "namespace": "default",
            "labels": {"kubernetes.io/service-name": format!("s-{number}")}
        },
        "addressType": "IPv4",
        "endpoints": [{"addresses": [address], "conditions": {"ready": true}}],
        "ports": [{"name": "", "port": 8000}]
    })
}
