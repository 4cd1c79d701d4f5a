//! What a stream allocates to send one change, counted, among 100, 1,000 and 10,000 clusters. Growth by more than 10 % over what
//! is recorded is an error, and so is a cost that depends on how many clusters there are.

use std::{alloc::System, env, process::Command};

use futures::StreamExt as _;
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};

use super::*;
use crate::ads::{bodies::Bodies, responses::Responses};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// Name of the test here. It runs in a process of its own, as other tests allocate meanwhile.
const TEST: &str = "ads::tests::cost::a_response_costs_no_more_than_recorded";
const ALONE: &str = "NUNCIO_COST_ALONE";
/// Numbers of clusters, each with endpoints. A table refers to ten.
const SIZES: [usize; 3] = [100, 1_000, 10_000];
const ROUNDS: usize = 10;

/// Recorded for each change: responses, allocations, allocated bytes, and bytes that are sent. After a reduction, record the new
/// numbers.
const RECORDED: [(Change, [usize; 4]); 5] = [
    (Change::Table, [1, 10, 2_037, 1_734]),
    (Change::Added, [3, 34, 4_385, 2_808]),
    (Change::Removed, [3, 36, 3_764, 2_004]),
    (Change::Endpoints, [1, 9, 870, 553]),
    (Change::Listener, [1, 10, 1_513, 1_202]),
];
const NAMES: [&str; 4] = ["responses", "allocations", "allocated bytes", "sent bytes"];

#[derive(Clone, Copy, Debug)]
enum Change {
    /// A table has another content.
    Table,
    /// A cluster with endpoints is added, and a table refers to it.
    Added,
    /// They are removed again.
    Removed,
    Endpoints,
    Listener,
}

fn cluster(n: usize) -> Resource {
    let name = format!("cluster_default_service-{n}_8080");
    let refs = [(ResourceType::Endpoints, name.as_str().into())];
    sized(ResourceType::Cluster, &name, "first", 300).with_refs(refs)
}

fn endpoints(n: usize, text: &str) -> Resource {
    let name = format!("cluster_default_service-{n}_8080");
    sized(ResourceType::Endpoints, &name, text, 300)
}

/// A table of ten clusters, and this one.
fn table(n: usize, text: &str, more: Option<usize>) -> Resource {
    let clusters = (n * 10..n * 10 + 10).chain(more);
    let refs = clusters.map(|n| {
        let name = format!("cluster_default_service-{n}_8080");
        (ResourceType::Cluster, name.into())
    });
    let name = format!("https-8443/default/host-{n}");
    sized(ResourceType::RouteTable, &name, text, 1500).with_refs(refs)
}

fn listener(text: &str) -> Resource {
    sized(ResourceType::Listener, "listener", text, 1000)
}

fn sized(kind: ResourceType, name: &str, text: &str, bytes: usize) -> Resource {
    let text = format!("{text} {name}");
    Resource::new(kind, name, format!("{text:bytes$}").into())
}

/// A stream of a client that has everything.
struct Stream {
    connection: Connection,
    responses: Responses,
    snapshot: Arc<Snapshot>,
    size: usize,
    now: Instant,
}

impl Stream {
    fn new(size: usize) -> Self {
        let clusters = (0..size).flat_map(|n| [cluster(n), endpoints(n, "first")]);
        let tables = (0..size / 10).map(|n| table(n, "first", None));
        let all: Vec<Resource> = clusters.chain(tables).chain([listener("first")]).collect();
        let mut stream = Self {
            connection: Connection::new(Protocol::Delta, Duration::ZERO),
            responses: Responses::new(futures::stream::empty().boxed(), Bodies::default()),
            snapshot: Arc::new(Snapshot::default().next(&all, &[]).unwrap()),
            size,
            now: Instant::now(),
        };
        for kind in ResourceType::ALL {
            let named = [ResourceType::Endpoints, ResourceType::RouteTable].contains(&kind);
            // with room for one more
            let more = [endpoints(size, ""), table(size / 10, "", None)];
            let all = all
                .iter()
                .chain(&more)
                .filter(|one| named && one.kind == kind);
            stream.connection.on_delta(DeltaDiscoveryRequest {
                type_url: kind.type_url().to_owned(),
                resource_names_subscribe: all.map(|one| one.name.to_string()).collect(),
                ..Default::default()
            });
        }
        stream.send();
        stream
    }

    /// Sends what is due, and handles the ACKs: responses, allocations, allocated bytes, sent bytes.
    fn send(&mut self) -> [usize; 4] {
        let mut sum = [0; 4];
        loop {
            let region = Region::new(ALLOCATOR);
            let response = self.connection.poll(&self.snapshot, self.now);
            let head = response.as_ref().map(|response| response.head.clone());
            let kind = response.as_ref().map(|response| response.kind);
            let length = response.as_ref().map_or(0, Response::len);
            let first = response.map(|response| self.responses.start(response).unwrap());
            let change = region.change();
            let (Some(head), Some(kind), Some(_)) = (head, kind, first) else {
                return sum;
            };
            // the copy of the head is the test's
            sum[1] += change.allocations + change.reallocations - 1;
            sum[2] += change.bytes_allocated - head.len();
            let head = DeltaDiscoveryResponse::decode(&head[..]).unwrap();
            let ack = DeltaDiscoveryRequest {
                type_url: kind.type_url().to_owned(),
                response_nonce: head.nonce,
                ..Default::default()
            };
            let region = Region::new(ALLOCATOR);
            self.connection.on_delta(ack);
            let change = region.change();
            sum[0] += 1;
            sum[1] += change.allocations + change.reallocations;
            sum[2] += change.bytes_allocated;
            sum[3] += length;
        }
    }

    /// Publishes a change, and sends it.
    fn make(&mut self, change: Change, round: usize) -> [usize; 4] {
        let text = format!("{change:?} {round}");
        let (old, new) = ((round * 7919) % self.size, self.size);
        let (upserts, removals) = match change {
            Change::Table => (vec![table(old / 10, &text, None)], vec![]),
            Change::Added => {
                let all = [
                    cluster(new),
                    endpoints(new, &text),
                    table(1, &text, Some(new)),
                ];
                (all.to_vec(), vec![])
            }
            Change::Removed => {
                let removed = [cluster(new), endpoints(new, "")];
                let removed = removed.map(|one| (one.kind, one.name));
                (vec![table(1, &text, None)], removed.to_vec())
            }
            Change::Endpoints => (vec![endpoints(old, &text)], vec![]),
            Change::Listener => (vec![listener(&text)], vec![]),
        };
        self.snapshot = Arc::new(self.snapshot.next(&upserts, &removals).unwrap());
        self.send()
    }
}

#[test]
fn a_response_costs_no_more_than_recorded() {
    if env::var_os(ALONE).is_none() {
        let own = Command::new(env::current_exe().unwrap())
            .args(["--exact", TEST, "--nocapture"])
            .env(ALONE, "1")
            .output()
            .unwrap();
        let output = [own.stdout, own.stderr].concat();
        let output = String::from_utf8_lossy(&output);
        assert!(own.status.success(), "{output}");
        assert!(output.contains("1 passed"), "{output}");
        return;
    }
    let mut growth = Vec::new();
    for size in SIZES {
        let mut stream = Stream::new(size);
        for (change, recorded) in RECORDED {
            let mut sum = [0; 4];
            for round in 0..ROUNDS {
                // what is added in this round is removed first
                if matches!(change, Change::Removed) {
                    stream.make(Change::Added, ROUNDS + round);
                }
                let found = stream.make(change, round);
                if matches!(change, Change::Added) {
                    stream.make(Change::Removed, ROUNDS + round);
                }
                sum = std::array::from_fn(|at| sum[at] + found[at]);
            }
            let mean = sum.map(|sum| sum.div_ceil(ROUNDS));
            for ((now, recorded), name) in mean.into_iter().zip(recorded).zip(NAMES) {
                if now > recorded + recorded / 10 {
                    growth.push(format!(
                        "{size} clusters, {change:?}: {now} {name}, recorded are {recorded}; all are {mean:?}"
                    ));
                }
            }
        }
    }
    assert!(
        growth.is_empty(),
        "{}\n\nIf this is meant, record the largest numbers in RECORDED",
        growth.join("\n")
    );
}
