//! Agents that answer with anything but what is expected, or with a lot of it.

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::*;

/// What a server does after an answer.
#[derive(Clone, Copy)]
enum Then {
    /// Closes the connection.
    Close,
    /// Keeps it open, and is silent.
    Stall,
    /// Sends this over and over.
    Repeat(&'static [u8]),
}

/// A server that answers every connection with these bytes.
async fn server(answer: Vec<u8>, then: Then) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let answer = answer.clone();
            tokio::spawn(async move {
                let _ = stream.read(&mut [0; 4096]).await;
                let mut written = stream.write_all(&answer).await;
                match then {
                    Then::Close => {}
                    Then::Stall => std::future::pending().await,
                    Then::Repeat(bytes) => {
                        while written.is_ok() {
                            written = stream.write_all(bytes).await;
                        }
                    }
                }
            });
        }
    });
    address
}

fn answer(headers: &str, body: &str) -> Vec<u8> {
    let length = body.len();
    format!("HTTP/1.1 200 OK\r\ncontent-length: {length}\r\n{headers}\r\n\r\n{body}").into()
}

impl World {
    /// The states of the services once there is one for each.
    async fn all(&mut self, number: usize) -> BTreeMap<ConsulService, ConsulState> {
        let mut states = BTreeMap::new();
        while states.len() < number {
            let changes = self.changes.recv().await.expect("a change");
            for change in changes.changes {
                let Change::Consul(service, Some(state)) = change else {
                    panic!("{change:?}");
                };
                states.insert(service, state);
            }
        }
        states
    }
}

#[tokio::test]
async fn whatever_an_agent_sends_is_a_failure_of_its_services_only() {
    const INDEX: &str = "x-consul-index: 1";
    const HEAD: &[u8] =
        b"HTTP/1.1 200 OK\r\ncontent-length: 99999999999\r\nx-consul-index: 1\r\n\r\n";
    let deep = "[".repeat(100_000);
    let cases = [
        (Vec::new(), Then::Close),
        (Vec::new(), Then::Stall),
        (b"\x00\xff\x1b[31m\r\n\r\n".to_vec(), Then::Close),
        (b"HTTP/1.1 200 OK\r\nx: ".to_vec(), Then::Stall),
        (b"HTTP/1.1 200 OK\r\n".to_vec(), Then::Repeat(b"x: y\r\n")),
        (HEAD.to_vec(), Then::Stall),
        (HEAD.to_vec(), Then::Close),
        (HEAD.to_vec(), Then::Repeat(&[b'['; 1 << 16])),
        (answer(INDEX, &deep), Then::Stall),
        (answer(INDEX, r#"{"Node": {}}"#), Then::Stall),
        (answer(INDEX, "[{}]"), Then::Stall),
        (answer("x-consul-index: -1", "[]"), Then::Stall),
        (answer("x: y", "[]"), Then::Stall),
    ];
    let number = cases.len();
    let mut all = WantedConsul::new();
    for (index, (answer, then)) in cases.into_iter().enumerate() {
        let address = server(answer, then).await;
        all.insert(
            service(&format!("bad{index}")),
            Some(agent(&address).into()),
        );
    }
    let fake = Fake::default();
    fake.instances(1, &[("10.0.0.1", "", 80)]);
    let (address, _server) = fake.serve("127.0.0.1:0").await;
    all.insert(service("good"), Some(agent(&address).into()));
    let mut world = World::new(all, Environment::default());
    let (first, state) = world.change().await;
    assert_eq!((&*first.name, state.unwrap().addresses.len()), ("good", 1));
    let in_time = timeout(PATIENCE + Duration::from_secs(2), world.all(number));
    for (service, state) in in_time.await.expect("a state of each service in time") {
        let problem = state.problem.expect("a problem");
        assert!(state.addresses.is_empty(), "{service}");
        assert!(
            problem.len() < 300 && !problem.contains(['\u{1b}', '\u{0}']),
            "{problem}"
        );
    }
    assert_eq!(world.counts(), (number as i64 + 1, number as i64));
}

#[tokio::test]
async fn an_instance_that_cannot_be_used_hides_no_other() {
    let instance =
        |node: &str, service: &str| format!(r#"{{"Node": {node}, "Service": {service}}}"#);
    let all = [
        instance("{}", r#"{"Address": "10.0.0.1", "Port": 80}"#),
        instance(
            r#"{"Address": null}"#,
            r#"{"Address": "10.0.0.2", "Port": 70000}"#,
        ),
        instance("{}", r#"{"Address": null, "Port": 80}"#),
        instance("{}", r#"{"Address": "10.0.0.3", "Port": -1}"#),
        instance("{}", r#"{"Address": "not a name", "Port": 80}"#),
        instance(r#"{"Address": "10.0.0.4"}"#, r#"{"Port": 80}"#),
    ];
    let fake = Fake::default();
    fake.set(|answer| answer.body = format!("[{}]", all.join(",")));
    let (address, _server) = fake.serve("127.0.0.1:0").await;
    let mut world = World::of(&address);
    let usable = addresses(&["10.0.0.1:80", "10.0.0.4:80"]);
    assert_eq!(world.state().await, usable);
}

#[tokio::test]
async fn large_answers_are_used_up_to_a_limit() {
    let fake = Fake::default();
    let many: Vec<String> = (0..20_000)
        .map(|number| format!("10.1.{}.{}", number / 250, number % 250 + 1))
        .collect();
    let many: Vec<(&str, &str, u16)> = many.iter().map(|node| (&**node, "", 80)).collect();
    fake.instances(10, &many);
    let (address, _server) = fake.serve("127.0.0.1:0").await;
    let mut world = World::of(&address);
    let (all, _) = world.state().await;
    assert_eq!(all.len(), many.len());
    fake.set(|answer| {
        answer.index = 11;
        answer.body = format!("[{}]", " ".repeat(17 << 20));
    });
    let (kept, problem) = world.state().await;
    assert_eq!(kept.len(), many.len());
    let problem = problem.unwrap();
    assert!(
        problem.ends_with("the answer is incomplete or too large"),
        "{problem}"
    );
}

#[tokio::test]
async fn many_services_take_turns() {
    const SERVICES: usize = 10_000;
    let fake = Fake::default();
    fake.instances(10, &[("10.0.0.1", "", 80)]);
    let (address, _server) = fake.serve("127.0.0.1:0").await;
    let shared = Arc::new(agent(&address));
    let all = (0..SERVICES).map(|number| (service(&format!("s{number}")), Some(shared.clone())));
    let mut world = World::new(all.collect(), Environment::default());
    let started = Instant::now();
    let all = timeout(Duration::from_secs(60), world.all(SERVICES));
    drop(all.await.expect("a state of each service"));
    eprintln!("{SERVICES} services took {:?}", started.elapsed());
    let started = Instant::now();
    fake.instances(11, &[("10.0.0.2", "", 80)]);
    let changed = async {
        let mut changed = BTreeSet::new();
        while changed.len() < SERVICES {
            let states = world.all(1).await.into_iter();
            let new =
                states.filter(|(_, state)| state.addresses == ["10.0.0.2:80".parse().unwrap()]);
            changed.extend(new.map(|(service, _)| service));
        }
    };
    timeout(Duration::from_secs(60), changed)
        .await
        .expect("a change of each service");
    eprintln!("a change of all of them took {:?}", started.elapsed());
}
