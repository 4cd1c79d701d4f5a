//! The fault suite: what happens to requests, and to what is served, while a part of the cluster fails.
//!
//! Each table has one row per fault. Around every fault there is constant traffic, on a connection that stays and with
//! new connections whose handshakes and requests need a Secret, a route and an endpoint. A row counts the requests that
//! were lost, asks Envoy all the time whether anything is missing, and measures how long after the fault a change is seen.
//! Each row prints a line; e2e/FAULTS.md has the result of a run.

use std::sync::Arc;

use anyhow::{Result, ensure};
use futures::future::join_all;
use nuncio_e2e::{
    control_plane::{ControlPlane, ETCD},
    fault_proxy::{Reply, Scope},
    relay::Relay,
};

use self::{
    lane::{Edit, Lane},
    row::{Link, Part, Row, What, run_all},
};

#[path = "faults/inventory.rs"]
mod inventory;
#[path = "faults/lane.rs"]
mod lane;
#[path = "faults/row.rs"]
mod row;

/// Every way in which an apiserver answers although it cannot.
const REPLIES: [Reply; 9] = [
    Reply::Status(401),
    Reply::Status(403),
    Reply::Status(404),
    Reply::Status(410),
    Reply::Status(429),
    Reply::Status(500),
    Reply::Page,
    Reply::NoBackend,
    Reply::Silence,
];

/// Kinds, and the change that shows that one is read again.
const KINDS: [(&str, &[Edit]); 3] = [
    ("mappings", &[Edit::Route]),
    ("endpointslices", &[Edit::Endpoints]),
    ("secrets", &[Edit::Certificate]),
];
/// The changes that show that all of them are.
const ALL: &[Edit] = &[Edit::Route, Edit::Endpoints, Edit::Certificate];

/// Bound for requests that are forbidden: a watch pauses for 15 s, and the machine may be busy.
const FORBIDDEN: u64 = 25;
/// Bound for every other failure: a watch pauses for at most five seconds.
const FAILING: u64 = 12;
/// Bound for requests that are not answered, which a list waits for 30 s.
const UNANSWERED: u64 = 35;

pub(crate) async fn killed_stopped_and_partitioned_parts_cost_no_request() -> Result<()> {
    let relay = Relay::start("127.0.0.1:2378", ETCD).await?;
    let plane = ControlPlane::start_with_etcd_at(relay.address()).await?;
    let mut lane = Lane::start(plane.into(), 1).await?;
    lane.etcd = Some(relay);
    let rows = [
        Row::running(What::Killed(Part::Operator), 1, 10),
        Row::running(What::Stopped(Part::Operator), 3, 5),
        Row::running(What::Partitioned(Link::EnvoyToOperator), 5, 10),
        Row::running(What::Partitioned(Link::OperatorToApiserver), 10, 10),
        Row::running(What::HalfOpen(Link::OperatorToApiserver), 0, 30),
        Row::running(What::Killed(Part::Apiserver), 2, 10),
        Row::running(What::Stopped(Part::Apiserver), 5, 10),
        Row::running(What::Killed(Part::Etcd), 2, 10),
        Row::running(What::Stopped(Part::Etcd), 5, 10),
        Row::running(What::Partitioned(Link::ApiserverToEtcd), 5, 15),
        Row::start(What::Partitioned(Link::OperatorToApiserver), 4, 10),
    ];
    run_all(&mut lane, &rows).await
}

pub(crate) async fn wrong_answers_while_running_cost_no_request() -> Result<()> {
    let mut rows = rows(Row::running);
    for (plural, edits) in KINDS {
        let what = What::Answered(Scope::Kind(plural), Reply::EmptyList);
        let row = Row::running(what, 3, FAILING);
        rows.push(Row { edits, ..row });
    }
    in_lanes(&rows).await
}

pub(crate) async fn wrong_answers_at_start_cost_no_request() -> Result<()> {
    let mut rows = rows(Row::start);
    let forbidden = |plural| {
        let what = What::Answered(Scope::Kind(plural), Reply::Status(403));
        Row::start(what, 4, FORBIDDEN)
    };
    // what a gateway without this permission does is decided: it starts with no object of the kind
    rows.retain(|row| row.what != forbidden("endpointslices").what);
    rows.extend([
        Row {
            is_ready: true,
            loses: Some("without EndpointSlices there are no endpoints"),
            removes: &["endpoint"],
            edits: &[Edit::Endpoints],
            ..forbidden("endpointslices")
        },
        Row {
            is_ready: true,
            ..forbidden("namespaces")
        },
        forbidden("mappings"),
    ]);
    in_lanes(&rows).await
}

pub(crate) async fn leaders_and_deletions_do_what_they_must_and_no_more() -> Result<()> {
    let plane = ControlPlane::start().await?;
    let mut lane = Lane::start(plane.into(), 1).await?;
    let deleted = Some("they are for deleted Mappings");
    let of_mappings = &["cluster", "endpoint", "route"];
    let rows = [
        // these two prove that the suite sees a lost request and a missing route
        Row {
            loses: Some("Envoy itself is gone"),
            removes: &["cluster", "endpoint", "listener", "route", "secret"],
            ..Row::running(What::Killed(Part::Envoy), 1, 10)
        },
        Row {
            loses: deleted,
            removes: of_mappings,
            ..Row::running(What::MappingDeleted, 1, 10)
        },
        Row {
            edits: &[Edit::Status],
            ..Row::running(What::LeaderKilled, 0, 25)
        },
        Row {
            edits: &[Edit::Status],
            ..Row::running(What::LeaseDeleted, 0, 10)
        },
        Row {
            loses: deleted,
            removes: of_mappings,
            ..Row::running(What::DefinitionDeleted, 1, 15)
        },
        Row {
            removes: of_mappings,
            ..Row::running(What::NamespaceDeleted, 0, 15)
        },
    ];
    run_all(&mut lane, &rows).await
}

/// Each wrong answer, for one kind and for all.
fn rows(row: impl Fn(What, u64, u64) -> Row) -> Vec<Row> {
    let mut kinds = KINDS.into_iter().cycle();
    let mut rows = Vec::new();
    for reply in REPLIES {
        let bound = match reply {
            Reply::Status(403) => FORBIDDEN,
            Reply::Silence => UNANSWERED,
            _ => FAILING,
        };
        let one = kinds.next();
        let one = one.map(|(plural, edits)| (Scope::Kind(plural), edits));
        for (scope, edits) in [(Scope::All, ALL)].into_iter().chain(one) {
            let row = row(What::Answered(scope, reply), 4, bound);
            rows.push(Row { edits, ..row });
        }
    }
    rows
}

/// Runs rows that disturb only their own gateway, beside each other in one cluster.
async fn in_lanes(rows: &[Row]) -> Result<()> {
    const LANES: u8 = 4;
    let plane = Arc::new(ControlPlane::start().await?);
    let lanes = (1..=LANES).map(|number| {
        let plane = plane.clone();
        let own = rows.iter().skip(usize::from(number) - 1);
        let own: Vec<Row> = own.step_by(usize::from(LANES)).cloned().collect();
        async move {
            let mut lane = Lane::start(plane, number).await?;
            run_all(&mut lane, &own).await
        }
    });
    let results = join_all(lanes).await.into_iter();
    let failures: Vec<String> = results
        .filter_map(Result::err)
        .map(|error| format!("{error:#}"))
        .collect();
    ensure!(failures.is_empty(), "{}", failures.join("\n"));
    Ok(())
}
