//! Which fleets a peer may belong to: what `--envoy-service-account` and `--xds-client-name` say after `=`.
//!
//! An Envoy says itself which fleet it belongs to. Where several are served, that alone must not give it the keys of any of
//! them, so each accepted name comes with its fleets.

use std::{collections::BTreeSet, str::FromStr};

use anyhow::ensure;
use nuncio_core::settings::Fleets;

use super::name::{InvalidServiceAccount, ServiceAccount};

/// The fleets that a peer may belong to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Allowed {
    /// Any fleet.
    Any,
    /// Those with these IDs.
    Only(BTreeSet<String>),
}

impl Allowed {
    /// IDs separated by commas, or `*`.
    fn parse(text: &str) -> Self {
        match text.trim() {
            "*" => Self::Any,
            ids => Self::Only(ids.split(',').map(|id| id.trim().to_owned()).collect()),
        }
    }

    /// Whether the peer may belong to this fleet.
    #[must_use]
    pub fn contains(&self, id: &str) -> bool {
        match self {
            Self::Any => true,
            Self::Only(ids) => ids.contains(id),
        }
    }

    /// Both together.
    #[must_use]
    pub fn or(self, other: Self) -> Self {
        match (self, other) {
            (Self::Only(mut ids), Self::Only(more)) => {
                ids.extend(more);
                Self::Only(ids)
            }
            (Self::Any, _) | (_, Self::Any) => Self::Any,
        }
    }

    /// Whether all of these fleets are served.
    fn is_served(&self, fleets: &Fleets) -> bool {
        match self {
            Self::Any => true,
            Self::Only(ids) => ids.iter().all(|id| fleets.ids().any(|known| known == id)),
        }
    }
}

/// A ServiceAccount whose pods may be Envoys, and of which fleets, if the flag says so.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EnvoyAccount {
    /// The ServiceAccount.
    pub account: ServiceAccount,
    /// Its fleets.
    pub fleets: Option<Allowed>,
}

impl FromStr for EnvoyAccount {
    type Err = InvalidServiceAccount;

    fn from_str(text: &str) -> Result<Self, InvalidServiceAccount> {
        let (account, fleets) = match text.split_once('=') {
            Some((account, fleets)) => (account, Some(Allowed::parse(fleets))),
            None => (text, None),
        };
        Ok(Self {
            account: account.parse()?,
            fleets,
        })
    }
}

impl EnvoyAccount {
    /// The fleets of its pods.
    ///
    /// # Errors
    /// A fleet that is not served, or none where there are several.
    pub fn allowed(&self, fleets: &Fleets) -> anyhow::Result<Allowed> {
        let flag = format!("--envoy-service-account {}", self.account);
        checked(self.fleets.clone(), &flag, fleets)
    }
}

/// The name that a client certificate must have, and the fleets of its client, of a value of `--xds-client-name`.
///
/// # Errors
/// A fleet that is not served, or none where there are several.
pub fn client_name(text: &str, fleets: &Fleets) -> anyhow::Result<(String, Allowed)> {
    let split = text.rsplit_once('=');
    let split = split.map(|(name, ids)| (name.to_owned(), Allowed::parse(ids)));
    // a name can contain the sign, too
    let split = split.filter(|(_, allowed)| fleets.are_several() || allowed.is_served(fleets));
    let (name, allowed) = match split {
        Some((name, allowed)) => (name, Some(allowed)),
        None => (text.to_owned(), None),
    };
    let allowed = checked(allowed, &format!("--xds-client-name {name}"), fleets)?;
    Ok((name, allowed))
}

fn checked(allowed: Option<Allowed>, flag: &str, fleets: &Fleets) -> anyhow::Result<Allowed> {
    let served = fleets.name();
    ensure!(
        allowed.is_some() || !fleets.are_several(),
        "{flag} must name the AMBASSADOR_ID of its Envoys, because several are served ({served}): use {flag}=ID, \
         or =* for Envoys that may have the keys of all"
    );
    let allowed = allowed.unwrap_or(Allowed::Any);
    if let Allowed::Only(ids) = &allowed {
        let unknown: Vec<_> = ids
            .iter()
            .filter(|id| fleets.ids().all(|known| known != *id))
            .collect();
        ensure!(
            unknown.is_empty(),
            "{flag} names AMBASSADOR_ID {unknown:?}, which is not served: AMBASSADOR_ID is {served:?}"
        );
    }
    Ok(allowed)
}

#[cfg(test)]
mod tests {
    use nuncio_core::settings::Settings;

    use super::*;

    fn fleets(ids: &str) -> Fleets {
        Fleets::split(Settings {
            ambassador_id: ids.to_owned(),
            ..Settings::default()
        })
        .unwrap()
    }

    fn only(ids: &[&str]) -> Allowed {
        Allowed::Only(ids.iter().map(|id| (*id).to_owned()).collect())
    }

    fn account(text: &str, ids: &str) -> anyhow::Result<Allowed> {
        text.parse::<EnvoyAccount>()?.allowed(&fleets(ids))
    }

    #[test]
    fn with_several_fleets_a_service_account_names_its_own() {
        assert_eq!(account("gateway/envoy", "a").unwrap(), Allowed::Any);
        assert_eq!(account("gateway/envoy=a", "a").unwrap(), only(&["a"]));
        assert_eq!(account("gateway/envoy=b", "a,b").unwrap(), only(&["b"]));
        let both = account("gateway/envoy=a, b", "a,b").unwrap();
        assert_eq!(both, only(&["a", "b"]));
        assert_eq!(account("gateway/envoy=*", "a,b").unwrap(), Allowed::Any);
        for (text, ids, part) in [
            ("gateway/envoy", "a,b", "must name the AMBASSADOR_ID"),
            ("gateway/envoy=", "a,b", "[\"\"], which is not served"),
            ("gateway/envoy=c", "a,b", "[\"c\"], which is not served"),
            ("gateway/envoy=b", "a", "AMBASSADOR_ID is \"a\""),
            ("gateway=a", "a,b", "use NAMESPACE/NAME"),
        ] {
            let error = account(text, ids).unwrap_err().to_string();
            assert!(error.contains(part), "{text}: {error}");
        }
    }

    #[test]
    fn with_several_fleets_a_client_name_has_its_own() {
        let uri = "spiffe://x/y?z=1";
        let name = |text: &str, ids: &str| client_name(text, &fleets(ids));
        assert_eq!(name(uri, "a").unwrap(), (uri.to_owned(), Allowed::Any));
        let with_fleet = format!("{uri}=a");
        for ids in ["a", "a,b"] {
            let found = name(&with_fleet, ids).unwrap();
            assert_eq!(found, (uri.to_owned(), only(&["a"])));
        }
        let error = name("envoy", "a,b").unwrap_err().to_string();
        assert!(error.contains("use --xds-client-name envoy=ID"), "{error}");
        assert!(name(uri, "a,b").is_err(), "1 is not served");
    }
}
