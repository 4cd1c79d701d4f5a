//! Lists of cipher suites as BoringSSL reads them in Envoy 1.40 (`SSL_CTX_set_strict_cipher_list`), with the items of
//! the list joined by colons: names of OpenSSL or IANA, groups such as `HIGH`, groups combined as in `ECDHE+AESGCM`,
//! suites of equal preference as in `[A|B]`, and operators that remove (`!`, `-`) or move (`+`) suites. Unknown names
//! and lists that leave no suite are errors. A test compares this with Envoy.
//!
//! The suites of TLS 1.3 are always on: their names are accepted and have no effect.

use Authentication as Auth;
use nuncio_ir::EnvoyVersion;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Exchange {
    Rsa,
    Ecdhe,
    Psk,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Authentication {
    Rsa,
    Ecdsa,
    Psk,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Encryption {
    TripleDes,
    Aes128,
    Aes256,
    Aes128Gcm,
    Aes256Gcm,
    ChaCha20,
}

/// A cipher suite of TLS 1.2 and below.
struct Suite {
    /// Name of OpenSSL.
    name: &'static str,
    /// Name of IANA.
    standard_name: &'static str,
    exchange: Exchange,
    authentication: Authentication,
    encryption: Encryption,
    /// Whether it is deprecated, so that it has to be named, or be removed, to be matched.
    is_deprecated: bool,
}

impl Suite {
    const fn is_aead(&self) -> bool {
        matches!(
            self.encryption,
            Encryption::Aes128Gcm | Encryption::Aes256Gcm | Encryption::ChaCha20
        )
    }

    /// Whether it authenticates messages with SHA-1.
    fn has_sha1(&self) -> bool {
        !self.is_aead() && !self.has_sha256()
    }

    fn has_sha256(&self) -> bool {
        !self.is_aead() && self.standard_name.ends_with("_SHA256")
    }

    /// Whether TLS 1.2 introduced it.
    fn is_new(&self) -> bool {
        self.is_aead() || self.has_sha256()
    }
}

const fn suite(
    name: &'static str,
    standard_name: &'static str,
    (exchange, authentication, encryption): (Exchange, Authentication, Encryption),
    is_deprecated: bool,
) -> Suite {
    Suite {
        name,
        standard_name,
        exchange,
        authentication,
        encryption,
        is_deprecated,
    }
}

#[rustfmt::skip]
const SUITES: [Suite; 22] = {
    use Encryption::{Aes128, Aes128Gcm, Aes256, Aes256Gcm, ChaCha20, TripleDes};
    use Exchange::{Ecdhe, Psk, Rsa};
    [
        suite("DES-CBC3-SHA", "TLS_RSA_WITH_3DES_EDE_CBC_SHA", (Rsa, Auth::Rsa, TripleDes), true),
        suite("AES128-SHA", "TLS_RSA_WITH_AES_128_CBC_SHA", (Rsa, Auth::Rsa, Aes128), false),
        suite("AES256-SHA", "TLS_RSA_WITH_AES_256_CBC_SHA", (Rsa, Auth::Rsa, Aes256), false),
        suite("PSK-AES128-CBC-SHA", "TLS_PSK_WITH_AES_128_CBC_SHA", (Psk, Auth::Psk, Aes128), false),
        suite("PSK-AES256-CBC-SHA", "TLS_PSK_WITH_AES_256_CBC_SHA", (Psk, Auth::Psk, Aes256), false),
        suite("AES128-GCM-SHA256", "TLS_RSA_WITH_AES_128_GCM_SHA256", (Rsa, Auth::Rsa, Aes128Gcm), false),
        suite("AES256-GCM-SHA384", "TLS_RSA_WITH_AES_256_GCM_SHA384", (Rsa, Auth::Rsa, Aes256Gcm), false),
        suite("ECDHE-ECDSA-AES128-SHA", "TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA", (Ecdhe, Auth::Ecdsa, Aes128), false),
        suite("ECDHE-ECDSA-AES256-SHA", "TLS_ECDHE_ECDSA_WITH_AES_256_CBC_SHA", (Ecdhe, Auth::Ecdsa, Aes256), false),
        suite("ECDHE-RSA-AES128-SHA", "TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA", (Ecdhe, Auth::Rsa, Aes128), false),
        suite("ECDHE-RSA-AES256-SHA", "TLS_ECDHE_RSA_WITH_AES_256_CBC_SHA", (Ecdhe, Auth::Rsa, Aes256), false),
        suite("ECDHE-ECDSA-AES128-SHA256", "TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA256", (Ecdhe, Auth::Ecdsa, Aes128), true),
        suite("ECDHE-RSA-AES128-SHA256", "TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA256", (Ecdhe, Auth::Rsa, Aes128), true),
        suite("ECDHE-ECDSA-AES128-GCM-SHA256", "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256", (Ecdhe, Auth::Ecdsa, Aes128Gcm), false),
        suite("ECDHE-ECDSA-AES256-GCM-SHA384", "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384", (Ecdhe, Auth::Ecdsa, Aes256Gcm), false),
        suite("ECDHE-RSA-AES128-GCM-SHA256", "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256", (Ecdhe, Auth::Rsa, Aes128Gcm), false),
        suite("ECDHE-RSA-AES256-GCM-SHA384", "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384", (Ecdhe, Auth::Rsa, Aes256Gcm), false),
        suite("ECDHE-PSK-AES128-CBC-SHA", "TLS_ECDHE_PSK_WITH_AES_128_CBC_SHA", (Ecdhe, Auth::Psk, Aes128), false),
        suite("ECDHE-PSK-AES256-CBC-SHA", "TLS_ECDHE_PSK_WITH_AES_256_CBC_SHA", (Ecdhe, Auth::Psk, Aes256), false),
        suite("ECDHE-RSA-CHACHA20-POLY1305", "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256", (Ecdhe, Auth::Rsa, ChaCha20), false),
        suite("ECDHE-ECDSA-CHACHA20-POLY1305", "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256", (Ecdhe, Auth::Ecdsa, ChaCha20), false),
        suite("ECDHE-PSK-CHACHA20-POLY1305", "TLS_ECDHE_PSK_WITH_CHACHA20_POLY1305_SHA256", (Ecdhe, Auth::Psk, ChaCha20), false),
    ]
};

/// Names of IANA and of BoringSSL for the suites of TLS 1.3.
const TLS_1_3: [&str; 3] = [
    "TLS_AES_128_GCM_SHA256",
    "TLS_AES_256_GCM_SHA384",
    "TLS_CHACHA20_POLY1305_SHA256",
];

/// What a rule does with the suites that it matches.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Rule {
    Add,
    /// Remove; they can be added again.
    Delete,
    /// Remove for good.
    Kill,
    /// Move to the end.
    Move,
    /// `@STRENGTH`
    Sort,
}

/// A rule that cannot be read: where, and what is wrong.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct InvalidRule {
    /// Item of the list; `None`: the list as a whole.
    pub(super) item: Option<usize>,
    pub(super) fact: String,
}

/// The suite that is known since this version of Envoy, by its names. It matches where it is named only.
const NEW: ([&str; 2], EnvoyVersion) = (
    [
        "ECDHE-ECDSA-AES128-SHA256",
        "TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA256",
    ],
    EnvoyVersion::minor(38),
);

/// Whether an item names the suite that older Envoys do not know.
pub(super) fn is_new(item: &str) -> bool {
    NEW.0.iter().any(|name| item.contains(name))
}

/// Checks the items of a list for Envoys of this version and later.
///
/// # Errors
/// What BoringSSL of one of them would reject.
pub(super) fn check(items: &[String], envoy: EnvoyVersion) -> Result<(), InvalidRule> {
    if envoy < NEW.1
        && let Some(item) = items.iter().position(|item| is_new(item))
    {
        let (name, since) = (NEW.0[0], NEW.1);
        let fact = format!("{name} needs Envoy {since}, and an older one is connected");
        return Err(InvalidRule {
            item: Some(item),
            fact,
        });
    }
    let joined = items.join(":");
    if joined.is_empty() {
        return Ok(());
    }
    let mut list = List::default();
    let rest = match joined.strip_prefix("DEFAULT") {
        Some(rest) => {
            list.apply(Rule::Add, |suite| !suite.is_deprecated);
            rest
        }
        None => &joined,
    };
    list.read(rest).map_err(|(after, fact)| {
        let place = joined.len() - after.min(joined.len());
        // the colon before an item belongs to it
        let mut end = 0;
        let item = items.iter().position(|item| {
            end += item.len() + 1;
            place < end
        });
        InvalidRule { item, fact }
    })?;
    if list.active.contains(&true) {
        Ok(())
    } else {
        Err(InvalidRule {
            item: None,
            fact: "no cipher suite of TLS 1.2 or below is left".to_owned(),
        })
    }
}

/// The suites of a list, whose order does not matter here.
struct List {
    active: [bool; SUITES.len()],
    killed: [bool; SUITES.len()],
}

impl Default for List {
    fn default() -> Self {
        Self {
            active: [false; SUITES.len()],
            killed: [false; SUITES.len()],
        }
    }
}

impl List {
    /// Applies rules. An error is what follows the place of the error, as a number of bytes, and what is wrong.
    fn read(&mut self, text: &str) -> Result<(), (usize, String)> {
        let mut rest = text;
        let mut in_group = false;
        let mut has_group = false;
        while let Some(first) = rest.chars().next() {
            let fail = |fact: String| Err((rest.len(), fact));
            let mut rule = Rule::Add;
            if in_group {
                match first {
                    ']' | '|' => {
                        in_group = first == '|';
                        rest = &rest[1..];
                        continue;
                    }
                    _ if !first.is_ascii_alphanumeric() => {
                        return fail(format!("unexpected {first:?} in brackets"));
                    }
                    _ => {}
                }
            } else {
                rule = match first {
                    '-' => Rule::Delete,
                    '+' => Rule::Move,
                    '!' => Rule::Kill,
                    '@' => Rule::Sort,
                    '[' | ':' => {
                        in_group = first == '[';
                        has_group |= in_group;
                        rest = &rest[1..];
                        continue;
                    }
                    _ => Rule::Add,
                };
            }
            if rule != Rule::Add && has_group {
                return fail(format!("{first:?} must not follow brackets"));
            }
            let text = if rule == Rule::Add { rest } else { &rest[1..] };
            rest = self.rule(rule, text).map_err(|fact| (rest.len(), fact))?;
        }
        if in_group {
            return Err((0, "unclosed bracket".to_owned()));
        }
        Ok(())
    }

    /// Applies a rule at the start of a text, and returns what follows it.
    fn rule<'a>(&mut self, rule: Rule, text: &'a str) -> Result<&'a str, String> {
        let (mut name, mut rest) = split_name(text)?;
        if rule == Rule::Sort {
            if name != "STRENGTH" {
                return Err(format!("unsupported command \"@{name}\""));
            }
            return Ok(&rest[rest.find(':').unwrap_or(rest.len())..]);
        }
        if !rest.starts_with('+') {
            if TLS_1_3.contains(&name) {
                return Ok(rest);
            }
            let is_named = |suite: &Suite| suite.name == name || suite.standard_name == name;
            if SUITES.iter().any(is_named) {
                self.apply(rule, is_named);
                return Ok(rest);
            }
        }
        let mut combined = Combined::new(rule);
        loop {
            combined.add(name)?;
            let Some(next) = rest.strip_prefix('+') else {
                break;
            };
            (name, rest) = split_name(next)?;
        }
        self.apply(rule, |suite| combined.matches(suite));
        Ok(rest)
    }

    fn apply(&mut self, rule: Rule, matches: impl Fn(&Suite) -> bool) {
        for (place, _) in SUITES
            .iter()
            .enumerate()
            .filter(|(_, suite)| matches(suite))
        {
            match rule {
                Rule::Add => self.active[place] = !self.killed[place],
                Rule::Delete => self.active[place] = false,
                Rule::Kill => {
                    self.active[place] = false;
                    self.killed[place] = true;
                }
                Rule::Move | Rule::Sort => {}
            }
        }
    }
}

/// The name at the start of a text, and what follows.
fn split_name(text: &str) -> Result<(&str, &str), String> {
    let is_part = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_');
    let end = text.bytes().position(|byte| !is_part(byte));
    match (end.unwrap_or(text.len()), text.chars().next()) {
        (0, Some(found)) => Err(format!("unexpected {found:?}")),
        (0, None) => Err("a name is missing".to_owned()),
        (end, _) => Ok(text.split_at(end)),
    }
}

/// Groups joined with `+`, which match the suites that are in all of them.
struct Combined {
    groups: Vec<fn(&Suite) -> bool>,
    with_deprecated: bool,
    /// The group of a version that came last.
    version: Option<&'static str>,
    is_empty: bool,
}

impl Combined {
    fn new(rule: Rule) -> Self {
        Self {
            groups: Vec::new(),
            with_deprecated: rule != Rule::Add,
            version: None,
            is_empty: false,
        }
    }

    fn add(&mut self, name: &str) -> Result<(), String> {
        let Some((known, matches)) = GROUPS.iter().find(|(group, _)| *group == name) else {
            return Err(format!(
                "unsupported cipher suite {name:?} (the list is in the documentation)"
            ));
        };
        // BoringSSL: nothing but the same version may follow a version
        let version = match *known {
            "SSLv3" | "TLSv1" => Some("TLSv1"),
            "TLSv1.2" => Some("TLSv1.2"),
            _ => None,
        };
        if self.version.is_some() && self.version != version {
            self.is_empty = true;
        } else {
            self.version = version;
        }
        self.with_deprecated |= *known == "3DES";
        self.groups.push(*matches);
        Ok(())
    }

    fn matches(&self, suite: &Suite) -> bool {
        !self.is_empty
            && (self.with_deprecated || !suite.is_deprecated)
            && self.groups.iter().all(|matches| matches(suite))
    }
}

/// Groups of suites.
type Group = (&'static str, fn(&Suite) -> bool);

const GROUPS: [Group; 27] = [
    ("ALL", |_| true),
    ("HIGH", |_| true),
    ("FIPS", |_| true),
    ("kRSA", |suite| suite.exchange == Exchange::Rsa),
    ("kECDHE", |suite| suite.exchange == Exchange::Ecdhe),
    ("kEECDH", |suite| suite.exchange == Exchange::Ecdhe),
    ("ECDH", |suite| suite.exchange == Exchange::Ecdhe),
    ("ECDHE", |suite| suite.exchange == Exchange::Ecdhe),
    ("EECDH", |suite| suite.exchange == Exchange::Ecdhe),
    ("kPSK", |suite| suite.exchange == Exchange::Psk),
    ("aRSA", |suite| suite.authentication == Auth::Rsa),
    ("aECDSA", |suite| suite.authentication == Auth::Ecdsa),
    ("ECDSA", |suite| suite.authentication == Auth::Ecdsa),
    ("aPSK", |suite| suite.authentication == Auth::Psk),
    ("RSA", |suite| suite.exchange == Exchange::Rsa),
    ("PSK", |suite| suite.exchange == Exchange::Psk),
    ("3DES", |suite| suite.encryption == Encryption::TripleDes),
    ("AES128", |suite| {
        matches!(suite.encryption, Encryption::Aes128 | Encryption::Aes128Gcm)
    }),
    ("AES256", |suite| {
        matches!(suite.encryption, Encryption::Aes256 | Encryption::Aes256Gcm)
    }),
    ("AES", |suite| {
        !matches!(
            suite.encryption,
            Encryption::TripleDes | Encryption::ChaCha20
        )
    }),
    ("AESGCM", |suite| {
        matches!(
            suite.encryption,
            Encryption::Aes128Gcm | Encryption::Aes256Gcm
        )
    }),
    ("CHACHA20", |suite| suite.encryption == Encryption::ChaCha20),
    ("SHA1", Suite::has_sha1),
    ("SHA", Suite::has_sha1),
    ("SSLv3", |suite| !suite.is_new()),
    ("TLSv1", |suite| !suite.is_new()),
    ("TLSv1.2", Suite::is_new),
];
