//! The authorities of an installation, and the next step of their rotation: pure, from what the Secret holds and the time.
//!
//! ```text
//!  none ─► one signs ─► due: the next one is trusted ─► it signs, the old one is trusted ─► one signs
//! ```
//!
//! The state is in the certificates alone, so that every replica comes to the same step whenever it looks. A clock that is
//! a day wrong moves a step by a day, which the times between steps allow for. An authority that a user supplies is never
//! changed here.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::ByteString;

use super::authority::{Authority, Error, Trusted};

/// Key of the certificate that signs.
const CERTIFICATE: &str = "tls.crt";
/// Key of its private key.
const KEY: &str = "tls.key";
/// Key of all certificates that are trusted.
pub(crate) const BUNDLE: &str = "ca.crt";
/// Key of the certificate that will sign next.
const NEXT_CERTIFICATE: &str = "next.crt";
/// Key of its private key.
const NEXT_KEY: &str = "next.key";

/// The next authority is added this long before the one that signs expires.
const RENEW: SignedDuration = SignedDuration::from_hours(60 * 24);
/// How long an authority is trusted before it signs: Envoys and replicas get the bundle within minutes.
const AHEAD: SignedDuration = SignedDuration::from_hours(7 * 24);
/// An authority that expires within this time does not sign any more.
const LAST: SignedDuration = SignedDuration::from_hours(2 * 24);
/// How long the old authority is trusted after the change: longer than what it has signed is valid.
const KEEP: SignedDuration = SignedDuration::from_hours(9 * 24);

/// The authorities of an installation.
#[derive(Debug)]
pub(crate) struct Authorities {
    /// The one that signs.
    signing: Authority,
    /// The one that signs next.
    next: Option<Authority>,
    /// Others that are trusted.
    others: Vec<Trusted>,
    /// Whether this program made them, and so rotates them.
    is_own: bool,
}

/// What is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// The next authority must be added, so that it is trusted before it signs.
    Add,
    /// The next authority must sign.
    Switch,
    /// Authorities must not be trusted any more, because all that they have signed has expired.
    Drop,
    /// All authorities have expired, so that nothing is left to overlap with.
    Replace,
}

impl Authorities {
    /// One new authority.
    pub(crate) fn create(now: Timestamp) -> Result<Self, Error> {
        Ok(Self {
            signing: Authority::create(now)?,
            next: None,
            others: Vec::new(),
            is_own: true,
        })
    }

    /// The authorities of a Secret.
    pub(crate) fn parse(data: &BTreeMap<String, ByteString>, is_own: bool) -> Result<Self, Error> {
        let text = |key: &str| data.get(key).map(|value| String::from_utf8_lossy(&value.0));
        let pair = |names: [&'static str; 2]| {
            let [certificate, key] = names.map(|name| text(name).unwrap_or_default());
            Authority::parse(&certificate, &key, names)
        };
        let signing = pair([CERTIFICATE, KEY])?;
        let next = match is_own && data.contains_key(NEXT_CERTIFICATE) {
            true => Some(pair([NEXT_CERTIFICATE, NEXT_KEY])?),
            false => None,
        };
        let mut others = match text(BUNDLE) {
            Some(bundle) => Trusted::parse(&bundle, BUNDLE)?,
            None => Vec::new(),
        };
        let known = [Some(&signing), next.as_ref()];
        others.retain(|other| {
            let mut known = known.iter().flatten();
            !known.any(|authority| authority.certificate() == other)
        });
        let is_anchored = signing.certificate().is_root() || others.iter().any(Trusted::is_root);
        if !is_anchored {
            return Err(Error::NoRoot(CERTIFICATE));
        }
        Ok(Self {
            signing,
            next,
            others,
            is_own,
        })
    }

    /// What the Secret holds.
    pub(crate) fn data(&self) -> BTreeMap<String, ByteString> {
        let mut data = BTreeMap::from([
            (CERTIFICATE, self.signing.chain().to_owned()),
            (KEY, self.signing.key().to_owned()),
            (BUNDLE, self.bundle()),
        ]);
        if let Some(next) = &self.next {
            data.insert(NEXT_CERTIFICATE, next.chain().to_owned());
            data.insert(NEXT_KEY, next.key().to_owned());
        }
        let entries = data.into_iter();
        entries
            .map(|(key, text)| (key.to_owned(), ByteString(text.into_bytes())))
            .collect()
    }

    /// All certificates that are trusted.
    pub(crate) fn trusted(&self) -> impl Iterator<Item = &Trusted> {
        let own = [Some(&self.signing), self.next.as_ref()];
        let own = own.into_iter().flatten().map(Authority::certificate);
        own.chain(&self.others)
    }

    /// All certificates that are trusted, PEM.
    pub(crate) fn bundle(&self) -> String {
        self.trusted().map(Trusted::pem).collect()
    }

    /// Whether this program made them, and so rotates them.
    pub(crate) const fn is_own(&self) -> bool {
        self.is_own
    }

    /// Trusts others, too, which the Secret does not have any more.
    pub(crate) fn trust(&mut self, others: Vec<Trusted>) {
        self.others.extend(others);
    }

    /// The authority that signs.
    pub(crate) fn signing(&self) -> &Authority {
        &self.signing
    }

    /// The next step of the rotation, if it is due.
    pub(crate) fn due(&self, now: Timestamp) -> Option<Step> {
        if !self.is_own {
            return None;
        }
        let signing = self.signing.certificate();
        let next = self.next.as_ref().map(Authority::certificate);
        let next = next.filter(|next| next.not_after > now);
        match next {
            Some(next) if next.created() + AHEAD <= now || signing.not_after <= now + LAST => {
                return Some(Step::Switch);
            }
            None if signing.not_after <= now => return Some(Step::Replace),
            None if signing.not_after <= now + RENEW => return Some(Step::Add),
            Some(_) | None => {}
        }
        let is_over = signing.created() + AHEAD + KEEP <= now;
        let is_old = |other: &Trusted| is_over || other.not_after <= now;
        self.others.iter().any(is_old).then_some(Step::Drop)
    }

    /// The authorities after a step.
    pub(crate) fn step(self, step: Step, now: Timestamp) -> Result<Self, Error> {
        let Self {
            signing,
            next,
            mut others,
            is_own,
        } = self;
        Ok(match (step, next) {
            (Step::Add, _) => Self {
                signing,
                next: Some(Authority::create(now)?),
                others,
                is_own,
            },
            (Step::Switch, Some(next)) => {
                others.push(signing.certificate().clone());
                Self {
                    signing: next,
                    next: None,
                    others,
                    is_own,
                }
            }
            (Step::Drop, next) => {
                let is_over = signing.certificate().created() + AHEAD + KEEP <= now;
                others.retain(|other| !is_over && other.not_after > now);
                Self {
                    signing,
                    next,
                    others,
                    is_own,
                }
            }
            (Step::Replace, _) | (Step::Switch, None) => Self::create(now)?,
        })
    }
}

#[cfg(test)]
mod tests;
