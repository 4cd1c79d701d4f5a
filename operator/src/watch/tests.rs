//! Watches against an apiserver that answers as a test says.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicUsize, Ordering},
};

use serde_json::Value;
use tokio::{
    sync::mpsc,
    time::{sleep, timeout},
};

use super::*;
use crate::{
    client::{
        Limits,
        testing::{Answer, Apiserver},
    },
    publish::Question,
    status::Observed,
};
use nuncio_core::{change::Batch, object::ObjectRef};

/// A running watch and what it tells others.
struct World {
    changes: mpsc::Receiver<Batch>,
    progress: Progress,
    metrics: Metrics,
    book: Book,
    definitions: watch::Sender<Definitions>,
    questions: mpsc::Receiver<Question>,
    _apiserver: Apiserver,
}

impl World {
    /// What a watch gets, and what it tells others, with an apiserver that answers in this way.
    async fn new(handle: impl Fn(&str, &mut Answer) + Send + Sync + 'static) -> (Self, Context) {
        let apiserver = Apiserver::start(handle).await;
        let (sender, changes) = mpsc::channel(8);
        let (asking, questions) = mpsc::channel(1);
        let (definitions, installed) = watch::channel(Definitions::default());
        let context = Context {
            client: apiserver.client(Limits::default()),
            fleets: Settings::default().into(),
            changes: sender.into(),
            questions: asking.into(),
            book: Book::default(),
            progress: Progress::default(),
            metrics: Metrics::default(),
            definitions: installed,
        };
        let world = Self {
            changes,
            progress: context.progress.clone(),
            metrics: context.metrics.clone(),
            book: context.book.clone(),
            definitions,
            questions,
            _apiserver: apiserver,
        };
        (world, context)
    }

    async fn start(kind: Kind, handle: impl Fn(&str, &mut Answer) + Send + Sync + 'static) -> Self {
        let (world, context) = Self::new(handle).await;
        tokio::spawn(super::watch(kind, context));
        world
    }

    async fn change(&mut self) -> Change {
        let changes = timeout(Duration::from_secs(20), self.changes.recv()).await;
        changes
            .expect("a change")
            .expect("a watch")
            .changes
            .remove(0)
    }

    /// There must be no change for this long.
    async fn is_unchanged_for(&mut self, time: Duration) {
        let change = timeout(time, self.changes.recv()).await;
        assert!(change.is_err(), "{change:?}");
    }

    /// Waits until what is missing or wrong has this text.
    async fn says(&self, text: &str) {
        let says = || self.progress.describe() + &self.progress.warnings();
        for _ in 0..200 {
            if says().contains(text) {
                return;
            }
            sleep(Duration::from_millis(50)).await;
        }
        panic!("{text:?} is missing in {:?}", says());
    }
}

const FORBIDDEN: &str = r#"{"kind":"Status","status":"Failure","reason":"Forbidden","code":403}"#;
const NOT_FOUND: &str = r#"{"kind":"Status","status":"Failure","reason":"NotFound","code":404}"#;
const GONE: &str = r#"{"kind":"Status","status":"Failure","reason":"Expired","code":410}"#;

fn is_watch(path: &str) -> bool {
    path.contains("watch=true")
}

fn list(names: &[&str]) -> String {
    let items: Vec<Value> = names
        .iter()
        .map(|name| serde_json::json!({"metadata": {"name": name, "namespace": "default"}}))
        .collect();
    serde_json::json!({"metadata": {"resourceVersion": "7"}, "items": items}).to_string()
}

/// A list of one Mapping in version v2.
const OLD: &str = r#"{"metadata": {"resourceVersion": "7"}, "items": [{
    "apiVersion": "getambassador.io/v2", "kind": "Mapping", "metadata": {"name": "a", "namespace": "default"},
    "spec": {"prefix": "/", "service": "b", "host": "c"}}]}"#;

/// Resources of a version that has Mappings.
const MAPPINGS: &str = r#"{"groupVersion": "x", "resources": [
    {"name": "mappings", "singularName": "", "namespaced": true, "kind": "Mapping", "verbs": []}]}"#;

const UNCONVERTED: &str = r#"{"kind": "Status", "status": "Failure", "code": 500,
    "message": "conversion webhook for getambassador.io/v2, Kind=Mapping failed: service \"x\" not found"}"#;

/// Every watch expires at once, so that there is one list after the other; each is answered by its number.
fn relisted(
    answers: impl Fn(usize, &mut Answer) + Send + Sync + 'static,
) -> impl Fn(&str, &mut Answer) + Send + Sync + 'static {
    let lists = AtomicUsize::new(0);
    move |path, answer| {
        if is_watch(path) {
            answer.complete(410, GONE);
        } else {
            answers(lists.fetch_add(1, Ordering::SeqCst), answer);
        }
    }
}

/// How many objects a list has.
fn listed(change: &Change) -> usize {
    match change {
        Change::Replace(Source::Api, _, found) => found.len(),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn without_permission_for_a_kind_that_is_needed_nothing_is_published() {
    let mut world = World::start(Kind::Mapping, |_, answer| answer.complete(403, FORBIDDEN)).await;
    world
        .says("missing permission to list mappings.getambassador.io in all namespaces")
        .await;
    assert!(
        world
            .metrics
            .misses_permission("mappings.getambassador.io", "watch")
    );
    world.is_unchanged_for(Duration::from_secs(1)).await;
}

#[tokio::test]
async fn without_permission_for_another_kind_it_is_empty() {
    for kind in [Kind::Namespace, Kind::EndpointSlice] {
        let mut world = World::start(kind, |_, answer| answer.complete(403, FORBIDDEN)).await;
        assert_eq!(listed(&world.change().await), 0);
        world.says("continuing without its objects").await;
        assert!(world.metrics.misses_permission(&resource(kind), "watch"));
    }
}

#[tokio::test]
async fn a_kind_that_is_not_installed_is_empty_until_it_is_installed() {
    let is_installed = Arc::new(AtomicBool::new(false));
    let installed = is_installed.clone();
    let mut world = World::start(Kind::Mapping, move |path, answer| {
        match (installed.load(Ordering::SeqCst), is_watch(path)) {
            (false, _) if path == "/apis" => answer.complete(200, r#"{"groups":[]}"#),
            (false, _) => answer.complete(404, NOT_FOUND),
            (true, false) => answer.complete(200, &list(&["a"])),
            (true, true) => answer.begin(""),
        }
    })
    .await;
    assert_eq!(listed(&world.change().await), 0);
    is_installed.store(true, Ordering::SeqCst);
    let start = std::time::Instant::now();
    let names = ["mappings.getambassador.io".to_owned()].into();
    world.definitions.send_replace(Arc::new(names));
    assert_eq!(listed(&world.change().await), 1);
    assert!(
        start.elapsed() < SETTLED / 2,
        "it was not started by the definition"
    );
}

#[tokio::test]
async fn a_list_that_is_not_found_though_discovery_names_the_kind_empties_nothing() {
    let mut world = World::start(Kind::Mapping, |path, answer| {
        if path == "/apis/getambassador.io/v3alpha1" {
            let resource =
                r#"{"name":"mappings","singularName":"","namespaced":true,"kind":"Mapping","verbs":[]}"#;
            answer.complete(
                200,
                &format!(r#"{{"groupVersion":"getambassador.io/v3alpha1","resources":[{resource}]}}"#),
            );
        } else {
            answer.complete(404, NOT_FOUND);
        }
    })
    .await;
    world.is_unchanged_for(outage::SETTLED_AFTER * 3).await;
    world.says("waiting for Mapping").await;
}

/// A load balancer without a backend.
#[tokio::test]
async fn an_apiserver_that_finds_nothing_empties_nothing() {
    for body in [NOT_FOUND, "default backend - 404"] {
        let handle = move |_: &str, answer: &mut Answer| answer.complete(404, body);
        let mut world = World::start(Kind::Mapping, handle).await;
        world.is_unchanged_for(outage::SETTLED_AFTER * 3).await;
        world.says("waiting for Mapping").await;
    }
}

/// An apiserver whose roles are not loaded.
#[tokio::test]
async fn a_kind_is_not_empty_while_everything_is_forbidden() {
    let (mut world, context) = World::new(|_, answer| answer.complete(403, FORBIDDEN)).await;
    world.progress.waiting(Kind::Service, "forbidden");
    tokio::spawn(super::watch(Kind::EndpointSlice, context));
    world.is_unchanged_for(outage::SETTLED_AFTER * 3).await;
    world.progress.complete(Kind::Service);
    assert_eq!(listed(&world.change().await), 0);
}

/// The apiserver comes back with a part of its objects.
#[tokio::test]
async fn a_list_without_most_objects_counts_when_another_one_confirms_it() {
    let answers = relisted(|number, answer| match number {
        // the second is wrong, the fourth and the fifth are right
        0 | 2 => answer.complete(200, &list(&["a", "b", "c"])),
        _ => answer.complete(200, &list(&["a"])),
    });
    let mut world = World::start(Kind::Mapping, answers).await;
    assert_eq!(listed(&world.change().await), 3);
    assert_eq!(listed(&world.change().await), 3, "not the wrong one");
    assert_eq!(listed(&world.change().await), 1);
}

/// A list that lacks few objects and most clusters.
#[tokio::test]
async fn a_list_without_most_clusters_counts_when_another_one_confirms_it() {
    let answers = relisted(|number, answer| match number {
        0 => answer.complete(200, &list(&["a", "b", "c"])),
        _ => answer.complete(200, &list(&["a", "b"])),
    });
    let mut world = World::start(Kind::Mapping, answers).await;
    assert_eq!(listed(&world.change().await), 3);
    let start = std::time::Instant::now();
    let question = world.questions.recv().await.unwrap();
    assert_eq!(question.kind, Kind::Mapping);
    assert_eq!(question.listed.len(), 2);
    let loss = Loss {
        clusters: 5,
        lost: 3,
    };
    question.answer.send(loss).unwrap();
    assert_eq!(listed(&world.change().await), 2);
    assert!(start.elapsed() >= CONFIRM, "it was not confirmed");
}

#[tokio::test]
async fn what_is_known_stays_whatever_fails_later() {
    for (status, body) in [(403, FORBIDDEN), (404, NOT_FOUND), (500, "<html>")] {
        let answers = relisted(move |number, answer| match number {
            0 => answer.complete(200, &list(&["a"])),
            _ => answer.complete(status, body),
        });
        let mut world = World::start(Kind::Namespace, answers).await;
        assert_eq!(listed(&world.change().await), 1);
        world.is_unchanged_for(outage::SETTLED_AFTER * 2).await;
        assert!(!world.progress.warnings().is_empty(), "{status}");
    }
}

#[tokio::test]
async fn objects_are_counted_with_every_change_and_a_deleted_namespace_is_seen() {
    let watches = AtomicUsize::new(0);
    let mut world = World::start(Kind::Namespace, move |path, answer| {
        let event = |kind: &str, name: &str| {
            format!(
                "{{\"type\":\"{kind}\",\"object\":{{\"metadata\":{{\"name\":\"{name}\",\"resourceVersion\":\"9\"}}}}}}\n"
            )
        };
        if !is_watch(path) {
            answer.complete(
                200,
                r#"{"metadata":{"resourceVersion":"7"},"items":[{"metadata":{"name":"a"}}]}"#,
            );
        } else if watches.fetch_add(1, Ordering::SeqCst) == 0 {
            answer.complete(200, &(event("ADDED", "b") + &event("DELETED", "a")));
        } else {
            answer.begin("");
        }
    })
    .await;
    assert_eq!(listed(&world.change().await), 1);
    assert!(matches!(world.change().await, Change::Apply(..)));
    let deleted = ObjectRef::new(Kind::Namespace, "", "a");
    assert_eq!(world.change().await, Change::Delete(Source::Api, deleted));
    assert_eq!(world.metrics.objects(Kind::Namespace), 1);
}

/// A Mapping as the apiserver has it: with this prefix, label and state.
fn mapping(prefix: &str, label: &str, state: &str) -> String {
    serde_json::json!({
        "apiVersion": "getambassador.io/v3alpha1",
        "kind": "Mapping",
        "metadata": {
            "name": "a",
            "namespace": "default",
            "resourceVersion": format!("{prefix}{label}{state}").len().to_string(),
            "labels": {"app": label},
        },
        "spec": {"prefix": prefix, "service": "a", "hostname": "a.example"},
        "status": {"state": state},
    })
    .to_string()
}

#[tokio::test]
async fn an_event_that_shows_a_status_is_observed_and_changes_nothing_else() {
    let watches = AtomicUsize::new(0);
    let mut world = World::start(Kind::Mapping, move |path, answer| {
        let event =
            |kind: &str, object: &str| format!("{{\"type\":\"{kind}\",\"object\":{object}}}\n");
        if !is_watch(path) {
            let items = mapping("/a/", "x", "");
            let list = format!(r#"{{"metadata":{{"resourceVersion":"7"}},"items":[{items}]}}"#);
            answer.complete(200, &list);
        } else if watches.fetch_add(1, Ordering::SeqCst) == 0 {
            let events = [
                event("MODIFIED", &mapping("/a/", "x", "Running")),
                event("MODIFIED", &mapping("/b/", "x", "Running")),
                event("MODIFIED", &mapping("/b/", "x", "Inactive")),
                event("MODIFIED", &mapping("/b/", "y", "Inactive")),
                event("DELETED", &mapping("/b/", "y", "Inactive")),
                event("ADDED", &mapping("/b/", "y", "Running")),
            ];
            answer.complete(200, &events.concat());
        } else {
            answer.begin("");
        }
    })
    .await;
    assert_eq!(listed(&world.change().await), 1);
    for change in ["the prefix", "the label", "the deletion", "the new one"] {
        let found = world.change().await;
        let is_deletion = matches!(found, Change::Delete(..));
        assert_eq!(is_deletion, change == "the deletion", "{change}: {found:?}");
    }
    world.is_unchanged_for(Duration::from_millis(300)).await;
    assert_eq!(world.metrics.objects(Kind::Mapping), 1);
    let object = ObjectRef::new(Kind::Mapping, "default", "a");
    let status = serde_json::json!({"status": {"state": "Running"}});
    let observed = world.book.observed(&object).unwrap();
    assert_eq!(observed, Observed::of(Kind::Mapping, &status));
}

#[test]
fn a_field_selector_is_for_kinds_of_ours_and_a_label_selector_for_all() {
    let settings = Settings {
        label_selector: Some("app=edge".to_owned()),
        field_selector: Some("metadata.namespace=edge".to_owned()),
        ..Settings::default()
    };
    for kind in Kind::WATCHED {
        let config = config(kind, &settings);
        assert_eq!(config.label_selector, settings.label_selector, "{kind}");
        let expected = settings
            .field_selector
            .clone()
            .filter(|_| kind.group() == GROUP);
        assert_eq!(config.field_selector, expected, "{kind}");
    }
}

mod secrets {
    use super::*;
    use std::collections::BTreeSet;

    /// Starts the watch of Secrets with these references.
    async fn start(
        names: &[&str],
        handle: impl Fn(&str, &mut Answer) + Send + Sync + 'static,
    ) -> World {
        let (world, context) = World::new(handle).await;
        let names: BTreeSet<ObjectRef> = names
            .iter()
            .map(|name| ObjectRef::new(Kind::Secret, "default", name))
            .collect();
        let (wanting, wanted) = watch::channel(None);
        tokio::spawn(async move {
            tokio::join!(secret::watch(context, vec![wanted]), async {
                wanting.send_replace(Some(Arc::new(names)));
                wanting.closed().await;
            })
        });
        world
    }

    #[tokio::test]
    async fn a_fleet_gets_its_own_secrets_only_and_does_not_wait_for_those_of_another() {
        let (_world, mut context) = World::new(|path, answer| {
            if is_watch(path) {
                answer.begin("");
            } else if path.contains("limit=") {
                answer.complete(200, &list(&["a", "b", "c"]));
            } else if path.contains("/secrets/a") {
                answer.complete(500, "{}");
            } else {
                answer.complete(
                    200,
                    r#"{"metadata":{"name":"b","namespace":"default"},"data":{}}"#,
                );
            }
        })
        .await;
        let (one, mut of_one) = mpsc::channel(8);
        let (other, mut of_other) = mpsc::channel(8);
        context.changes = Changes::new(vec![one, other]);
        let wants = |name: &str| {
            let secret = ObjectRef::new(Kind::Secret, "default", name);
            watch::channel(Some(Arc::new(BTreeSet::from([secret]))))
        };
        let ((_a, wanted_a), (b, wanted_b)) = (wants("a"), wants("b"));
        tokio::spawn(secret::watch(context, vec![wanted_a, wanted_b]));
        let patience = Duration::from_secs(20);
        let found = timeout(patience, of_other.recv()).await.unwrap().unwrap();
        let [Change::Replace(Source::Api, Kind::Secret, found)] = found.changes.as_slice() else {
            panic!("{found:?}")
        };
        let names: Vec<&str> = found.iter().map(|found| &*found.object.name).collect();
        assert_eq!(names, ["b"]);
        b.send_replace(Some(Arc::default()));
        let gone = timeout(patience, of_other.recv()).await.unwrap().unwrap();
        assert!(
            matches!(gone.changes.as_slice(), [Change::Delete(..)]),
            "{gone:?}"
        );
        assert!(of_one.try_recv().is_err(), "it has something of the other");
    }

    #[tokio::test]
    async fn without_permission_nothing_is_published_while_one_is_referenced() {
        let mut world = start(&["a"], |_, answer| answer.complete(403, FORBIDDEN)).await;
        world
            .says("missing permission to list secrets in all namespaces")
            .await;
        world.is_unchanged_for(Duration::from_secs(1)).await;
    }

    #[tokio::test]
    async fn without_permission_and_without_a_reference_there_are_none() {
        let mut world = start(&[], |_, answer| answer.complete(403, FORBIDDEN)).await;
        assert_eq!(listed(&world.change().await), 0);
        world.says("missing permission to list secrets").await;
    }

    #[tokio::test]
    async fn a_permission_to_get_that_is_missing_for_all_is_named() {
        let world = start(&["a"], |path, answer| {
            if is_watch(path) {
                answer.begin("");
            } else if path.contains("limit=") {
                answer.complete(200, &list(&["a"]));
            } else {
                answer.complete(403, FORBIDDEN);
            }
        })
        .await;
        world
            .says("missing permission to get secrets, such as Secret default/a")
            .await;
    }

    #[tokio::test]
    async fn an_expired_watch_begins_with_a_list() {
        let lists = AtomicUsize::new(0);
        let mut world = start(&["a"], move |path, answer| {
            if is_watch(path) {
                answer.complete(410, GONE);
            } else if path.contains("limit=") {
                // it appears between two lists
                let names: &[&str] = match lists.fetch_add(1, Ordering::SeqCst) {
                    0 => &[],
                    _ => &["a"],
                };
                answer.complete(200, &list(names));
            } else {
                answer.complete(
                    200,
                    r#"{"metadata":{"name":"a","namespace":"default"},"data":{}}"#,
                );
            }
        })
        .await;
        assert_eq!(listed(&world.change().await), 0);
        assert!(matches!(world.change().await, Change::Apply(..)));
    }
}

/// The watch ends up with the Mapping of version v2, and its status is written in this version.
async fn reads_the_old_version(mut world: World) {
    let Change::Replace(Source::Api, Kind::Mapping, found) = world.change().await else {
        panic!("no list")
    };
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].problems, []);
    assert!(found[0].fragment.is_some());
    assert_eq!(world.book.versions().of(Kind::Mapping), "v2");
    assert!(!world.progress.describe().contains("Mapping"));
}

#[tokio::test]
async fn an_old_version_is_read_where_ours_is_not_served() {
    let world = World::start(Kind::Mapping, |path, answer| match path {
        "/apis" => answer.complete(200, r#"{"groups":[]}"#),
        "/apis/getambassador.io/v2" => answer.complete(200, MAPPINGS),
        path if is_watch(path) => answer.begin(""),
        path if path.starts_with("/apis/getambassador.io/v2/") => answer.complete(200, OLD),
        _ => answer.complete(404, NOT_FOUND),
    })
    .await;
    reads_the_old_version(world).await;
}

#[tokio::test]
async fn the_stored_version_is_read_where_it_cannot_be_converted() {
    let world = World::start(Kind::Mapping, |path, answer| match path {
        "/apis/getambassador.io/v2" | "/apis/getambassador.io/v3alpha1" => {
            answer.complete(200, MAPPINGS);
        }
        path if is_watch(path) => answer.begin(""),
        path if path.starts_with("/apis/getambassador.io/v2/") => answer.complete(200, OLD),
        path if path.starts_with("/apis/getambassador.io/v3alpha1/") => {
            answer.complete(500, UNCONVERTED);
        }
        _ => answer.complete(404, NOT_FOUND),
    })
    .await;
    reads_the_old_version(world).await;
}

/// A webhook that comes back is used again only if the other version fails.
#[tokio::test]
async fn a_short_absence_of_the_webhook_changes_nothing() {
    let requests = AtomicUsize::new(0);
    let mut world = World::start(Kind::Mapping, move |path, answer| match path {
        path if is_watch(path) => answer.begin(""),
        path if path.starts_with("/apis/getambassador.io/v3alpha1/") => {
            match requests.fetch_add(1, Ordering::Relaxed) {
                0 | 1 => answer.complete(500, UNCONVERTED),
                _ => answer.complete(200, &list(&["a"])),
            }
        }
        _ => answer.complete(200, MAPPINGS),
    })
    .await;
    assert!(matches!(world.change().await, Change::Replace(..)));
    assert_eq!(world.book.versions().of(Kind::Mapping), "v3alpha1");
}
