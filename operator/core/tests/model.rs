//! A second, naive opinion on order, grouping and attachment: a model that is written from the behaviour pages and
//! decisions alone and shares no code with the Store agrees with it on random configurations. `PROPTEST_CASES` runs more
//! than 1,000; the seed is printed, and `PROPTEST_RNG_SEED` repeats it.

use std::{
    env,
    hash::{BuildHasher, RandomState},
};

use nuncio_core::{
    change::{Change, Source},
    object::Kind,
    reconcile::reconcile,
    settings::Settings,
    store::Store,
};
use proptest::test_runner::{Config, RngSeed, TestCaseError, TestError, TestRunner};
use serde_json::Value;

use model::{
    actual, connection, expected, generate,
    input::Input,
    manifest, report,
    table::{Answer, Request, evaluate},
};

mod model {
    pub(crate) mod actual;
    pub(crate) mod attachment;
    pub(crate) mod connection;
    pub(crate) mod expected;
    pub(crate) mod generate;
    pub(crate) mod group;
    pub(crate) mod input;
    pub(crate) mod manifest;
    pub(crate) mod order;
    pub(crate) mod report;
    pub(crate) mod table;
}

#[test]
fn the_model_agrees_on_random_configurations() {
    let mut config = Config {
        failure_persistence: None,
        ..Config::default()
    };
    if env::var_os("PROPTEST_CASES").is_none() {
        config.cases = 1000;
    }
    if config.rng_seed == RngSeed::Random {
        config.rng_seed = RngSeed::Fixed(RandomState::new().hash_one(()));
    }
    println!("seed: {:?}", config.rng_seed);
    let mut runner = TestRunner::new(config);
    let result = runner.run(&generate::case(), |(input, requests)| {
        compare(&input, &requests).map_err(TestCaseError::fail)
    });
    // the input is in the reason, as YAML
    match result {
        Ok(()) => {}
        Err(TestError::Fail(reason, _)) => panic!("{reason}"),
        Err(TestError::Abort(reason)) => panic!("{reason}"),
    }
}

/// A Store with these objects, in their order of arrival.
fn store(objects: Vec<(Kind, Value)>, settings: &Settings) -> Store {
    let mut store = Store::new(settings.clone());
    for (kind, value) in objects {
        let reconciled = Box::new(reconcile(kind, value, settings));
        store.apply(Change::Apply(Source::Api, reconciled));
    }
    store.link();
    store
}

/// Where the model and the Store differ, with the manifests.
fn compare(input: &Input, requests: &[Request]) -> Result<(), String> {
    let settings = Settings {
        loose_label_selectors: input.loose,
        ..Settings::default()
    };
    let store = store(manifest::objects(input), &settings);
    let differ = |what: String| Err(format!("{what}\n\n{}", manifest::yaml(input)));

    let (model, product) = (expected::tables(input), actual::tables(store.ir()));
    for request in requests {
        let (here, there) = (evaluate(&model, request), evaluate(&product, request));
        if here != there {
            let tables = format!("model: {model:#?}\nproduct: {product:#?}");
            return differ(format!(
                "{request:?}: {here:?} in the model, {there:?} in the product\n{tables}"
            ));
        }
    }
    let mut backwards = manifest::objects(input);
    backwards.reverse();
    let reverse = actual::tables(self::store(backwards, &settings).ir());
    if reverse != product {
        return differ(format!(
            "the order of arrival matters: {product:#?}, backwards {reverse:#?}"
        ));
    }
    for table in model.iter().filter(|table| table.insecure == Answer::Route) {
        let found = product.iter().find(|found| found.domain == table.domain);
        let routes = found.map_or(&[][..], |found| &found.entries);
        if routes != table.entries {
            return differ(format!(
                "routes of {}: {:#?} in the model, {routes:#?} in the product",
                table.domain, table.entries
            ));
        }
    }
    let answers: Vec<_> = requests
        .iter()
        .map(|request| evaluate(&model, request))
        .collect();
    let served = expected::served(input);
    if let Some(contradiction) = report::contradiction(input, &served, store.reports(), &answers) {
        return differ(contradiction);
    }
    let (model, product) = (
        connection::connections(input),
        actual::connections(store.ir()),
    );
    for ((port, address), shares) in &model {
        let found = product.iter().find(|(key, _)| {
            let other = key.address.map(|address| address.to_string());
            key.port == *port && other.as_deref() == *address
        });
        let found = found.map_or(&[][..], |(_, found)| found);
        if !connection::is_in_proportion(shares, found) {
            return differ(format!(
                "connections to port {port}: {shares:?} in the model, {found:?} in the product"
            ));
        }
    }
    if model.len() != product.len() {
        return differ(format!(
            "sockets: {model:?} in the model, {product:?} in the product"
        ));
    }
    Ok(())
}
