use rcgen::{CertificateParams, ExtendedKeyUsagePurpose, IsCa, KeyPair};

use super::*;
use crate::identity::testing::{TestClock, verifies};

const DAY: SignedDuration = SignedDuration::from_hours(24);

/// A certificate of an Envoy.
fn leaf(authorities: &Authorities, now: Timestamp) -> String {
    let key = KeyPair::generate().unwrap();
    let usage = ExtendedKeyUsagePurpose::ClientAuth;
    let signed = authorities
        .signing()
        .sign(&key, Vec::new(), usage, now, DAY);
    signed.unwrap()
}

/// What replicas with a clock of this offset do to the Secret.
fn rotate(authorities: Authorities, now: Timestamp, taken: &mut Vec<Step>) -> Authorities {
    let Some(step) = authorities.due(now) else {
        return authorities;
    };
    taken.push(step);
    let data = authorities.step(step, now).unwrap().data();
    Authorities::parse(&data, true).unwrap()
}

#[test]
fn certificates_are_valid_through_all_rotations_with_clocks_a_day_apart() {
    let clock = TestClock::new();
    let mut authorities = Authorities::create(clock.now()).unwrap();
    let mut taken = Vec::new();
    // certificates of the last day, and bundles of the last six
    let mut leaves: Vec<(Timestamp, String)> = Vec::new();
    let mut bundles: Vec<(Timestamp, String)> = Vec::new();
    for day in 0..3 * 365 {
        clock.advance(DAY);
        let now = clock.now();
        let skew = [SignedDuration::ZERO, DAY, -DAY][day % 3];
        authorities = rotate(authorities, now + skew, &mut taken);
        let bundle = authorities.bundle();
        let leaf = leaf(&authorities, now);
        leaves.retain(|(signed, _)| now < *signed + DAY);
        bundles.retain(|(published, _)| now <= *published + DAY * 5);
        leaves.push((now, leaf.clone()));
        bundles.push((now, bundle.clone()));
        for (signed, leaf) in &leaves {
            assert!(verifies(leaf, &bundle, now), "day {day}, of {signed}");
        }
        for (published, bundle) in &bundles {
            assert!(
                verifies(&leaf, bundle, now),
                "day {day}, bundle of {published}"
            );
        }
        // whoever looks with a clock that is a day behind
        assert!(verifies(&leaf, &bundle, now - DAY), "day {day}");
        assert!(!verifies(&leaf, &bundle, now + DAY * 2), "day {day}");
        assert!(
            bundle.matches("BEGIN CERTIFICATE").count() <= 2,
            "day {day}"
        );
    }
    let round = [Step::Add, Step::Switch, Step::Drop];
    assert_eq!(taken, [round, round, round].concat());
}

#[test]
fn authorities_that_have_expired_are_replaced_at_once() {
    let clock = TestClock::new();
    let authorities = Authorities::create(clock.now()).unwrap();
    clock.advance(DAY * 366);
    let now = clock.now();
    assert_eq!(authorities.due(now), Some(Step::Replace));
    let replaced = authorities.step(Step::Replace, now).unwrap();
    assert_eq!(replaced.due(now), None);
    assert!(verifies(&leaf(&replaced, now), &replaced.bundle(), now));
}

#[test]
fn an_installation_that_was_away_for_long_catches_up() {
    let clock = TestClock::new();
    let mut taken = Vec::new();
    let mut authorities = Authorities::create(clock.now()).unwrap();
    // a day before the authority expires: the next one must sign at once
    clock.advance(DAY * 364);
    authorities = rotate(authorities, clock.now(), &mut taken);
    authorities = rotate(authorities, clock.now(), &mut taken);
    assert_eq!(taken, [Step::Add, Step::Switch]);
    let now = clock.now();
    assert!(verifies(
        &leaf(&authorities, now),
        &authorities.bundle(),
        now
    ));
    // the next one was added, and expired with the first
    let added = Authorities::create(now)
        .unwrap()
        .step(Step::Add, now)
        .unwrap();
    assert_eq!(added.due(now + DAY * 800), Some(Step::Replace));
}

#[test]
fn what_the_secret_holds_is_the_same_after_reading() {
    let now = TestClock::new().now();
    let authorities = Authorities::create(now).unwrap();
    let authorities = authorities.step(Step::Add, now).unwrap();
    let data = authorities.data();
    let keys: Vec<_> = data.keys().map(String::as_str).collect();
    assert_eq!(
        keys,
        ["ca.crt", "next.crt", "next.key", "tls.crt", "tls.key"]
    );
    assert_eq!(Authorities::parse(&data, true).unwrap().data(), data);
    assert!(
        !format!("{authorities:?}").contains("PRIVATE"),
        "{authorities:?}"
    );
}

fn supplied(entries: &[(&str, &str)]) -> Result<Authorities, String> {
    let entries = entries.iter();
    let data = entries.map(|(key, text)| ((*key).to_owned(), ByteString(text.as_bytes().into())));
    Authorities::parse(&data.collect(), false).map_err(|error| error.to_string())
}

#[test]
fn an_authority_that_a_user_supplies_signs_and_is_never_changed() {
    let now = TestClock::new().now();
    let root = Authority::create(now).unwrap();
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let root_key = KeyPair::from_pem(root.key()).unwrap();
    let issuer = rcgen::Issuer::from_ca_cert_pem(root.chain(), root_key).unwrap();
    let between = params.signed_by(&key, &issuer).unwrap().pem();
    let key = key.serialize_pem();

    let own = supplied(&[("tls.crt", root.chain()), ("tls.key", root.key())]).unwrap();
    assert_eq!(own.due(now + DAY * 1000), None);
    let authorities = supplied(&[
        ("tls.crt", &between),
        ("tls.key", &key),
        ("ca.crt", root.chain()),
    ]);
    let authorities = authorities.unwrap();
    // the chain leads to the root, whichever part of the bundle a verifier trusts
    let leaf = leaf(&authorities, now);
    assert!(verifies(&leaf, &authorities.bundle(), now));
    let error = supplied(&[("tls.crt", &between), ("tls.key", &key)]).unwrap_err();
    assert!(error.contains("add its root to ca.crt"), "{error}");
}

#[test]
fn errors_name_the_key_and_what_to_do() {
    let now = TestClock::new().now();
    let (one, other) = (
        Authority::create(now).unwrap(),
        Authority::create(now).unwrap(),
    );
    let leaf = leaf(&Authorities::create(now).unwrap(), now);
    let ec_key = "-----BEGIN EC PRIVATE KEY-----\nMHc=\n-----END EC PRIVATE KEY-----\n";
    for (certificate, key, expected) in [
        ("", one.key(), "tls.crt has no valid PEM"),
        (
            "-----BEGIN CERTIFICATE-----\n!",
            one.key(),
            "tls.crt has no valid PEM",
        ),
        (&leaf, one.key(), "not one of a certificate authority"),
        (one.chain(), "", "tls.key is not a private key"),
        (one.chain(), ec_key, "privateKey.encoding: PKCS8"),
        (
            one.chain(),
            other.key(),
            "not the private key of the first certificate",
        ),
    ] {
        let error = supplied(&[("tls.crt", certificate), ("tls.key", key)]).unwrap_err();
        assert!(error.contains(expected), "{error}");
    }
    let garbage = [
        ("tls.crt", one.chain()),
        ("tls.key", one.key()),
        ("ca.crt", "x"),
    ];
    assert!(
        supplied(&garbage)
            .unwrap_err()
            .contains("ca.crt has no valid PEM")
    );
}
