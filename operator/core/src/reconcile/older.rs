//! What an object adds while an Envoy is connected that does not have everything the object uses.
//!
//! An Envoy rejects a whole resource with an operator or a cipher suite that it does not know. So such an object is
//! reconciled once more for each older version: what uses the new is left out there, and reported. Few objects use any of
//! it; the others are looked through for a percent sign and the name of one cipher suite.

use nuncio_ir::EnvoyVersion;
use serde_json::Value;

use super::{Fragment, tls_settings};
use crate::report::Problem;

/// What an object adds instead.
#[derive(Clone, Debug, PartialEq)]
pub struct Older {
    /// While this, or an older one, is the oldest version of a connected Envoy. Of several, the oldest such version counts.
    pub newest: EnvoyVersion,
    /// See [`crate::change::Reconciled::fragment`].
    pub fragment: Option<Fragment>,
    /// See [`crate::change::Reconciled::problems`].
    pub problems: Vec<Problem>,
}

/// What an object is for each version that makes a difference, oldest first, given what it is for one.
pub(super) fn each(
    newest: &(Option<Fragment>, Vec<Problem>),
    of: impl Fn(EnvoyVersion) -> (Option<Fragment>, Vec<Problem>),
) -> Vec<Older> {
    let mut found: Vec<Older> = Vec::new();
    for minor in EnvoyVersion::OLDEST.minor..EnvoyVersion::NEWEST.minor {
        let version = EnvoyVersion::minor(minor);
        let (fragment, problems) = of(version);
        if let Some(last) = found.last_mut()
            && last.fragment == fragment
            && last.problems == problems
        {
            last.newest = version;
        } else if (&fragment, &problems) == (&newest.0, &newest.1) {
            // later versions have what this one has
            break;
        } else {
            found.push(Older {
                newest: version,
                fragment,
                problems,
            });
        }
    }
    found
}

/// Whether anything in an object could be new to an older version. With variables, which are texts with a dollar sign, anything
/// could.
pub(super) fn may_use_new(value: &Value, has_variables: bool) -> bool {
    let may_use_new = |value| may_use_new(value, has_variables);
    match value {
        Value::String(text) => {
            text.contains('%')
                || (has_variables && text.contains('$'))
                || tls_settings::has_new_cipher(text)
        }
        Value::Array(items) => items.iter().any(may_use_new),
        Value::Object(fields) => fields.values().any(may_use_new),
        Value::Null | Value::Bool(_) | Value::Number(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::{
        change::Reconciled,
        object::Kind,
        reconcile::{AddedHeaders, Fragment, reconcile},
        settings::Settings,
    };

    fn mapping(headers: &Value) -> Reconciled {
        let value = json!({
            "metadata": {"name": "a", "namespace": "default"},
            "spec": {"hostname": "*", "prefix": "/", "service": "a", "add_response_headers": headers}
        });
        reconcile(Kind::Mapping, value, &Settings::default())
    }

    /// The headers of each form, oldest first, as the names of those that are set and of those that are removed.
    fn forms(found: &Reconciled) -> Vec<String> {
        let older = found.older.iter();
        let forms = older.map(|older| (Some(older.newest), &older.fragment));
        let shown = |(version, fragment): (Option<EnvoyVersion>, &Option<Fragment>)| {
            let Some(Fragment::Mapping(mapping)) = fragment else {
                panic!("no Mapping");
            };
            let headers = mapping.shared.add_response_headers.clone();
            let headers: AddedHeaders = headers.unwrap_or_default();
            let names = headers.iter().map(|(name, header)| match header {
                Some(_) => name.clone(),
                None => format!("-{name}"),
            });
            let names: Vec<String> = names.collect();
            let version = version.map_or("any".to_owned(), |version| version.to_string());
            format!("{version}: {}", names.join(" "))
        };
        forms.chain([(None, &found.fragment)]).map(shown).collect()
    }

    #[test]
    fn what_a_version_lacks_is_left_out_for_it() {
        let found = mapping(&json!({
            "a": {"value": "%PROTOCOL%"},
            "b": {"value": "%LISTENER_NAME%"},
            "c": {"value": "%SPAN_ID%", "append": false},
            "d": {"value": "%DOWNSTREAM_LOCAL_ADDRESS_WITHOUT_PORT(1)%"},
        }));
        assert_eq!(forms(&found), ["1.37: a -c", "1.39: a c d", "any: a b c d"]);
        assert_eq!(found.problems, []);
        let messages = found.older[0].problems.iter();
        let messages: Vec<&str> = messages.map(|problem| &*problem.message).collect();
        assert!(
            messages[0].contains(
                "operator %LISTENER_NAME% needs Envoy 1.40, and an older one is connected"
            ),
            "{messages:?}"
        );
        assert!(
            messages[2].contains("this argument of operator"),
            "{messages:?}"
        );
        assert_eq!(
            found.clone().into_version(EnvoyVersion::NEWEST).problems,
            []
        );
        let for_old = found.into_version(EnvoyVersion::minor(38));
        assert_eq!((for_old.problems.len(), for_old.older.len()), (1, 0));
    }

    #[test]
    fn what_all_versions_have_has_one_form() {
        for value in ["%PROTOCOL%", "100 percent", "%NOTHING%", ""] {
            let found = mapping(&json!({"a": {"value": value}}));
            assert_eq!(found.older, [], "{value}");
        }
    }

    #[test]
    fn a_new_cipher_suite_has_two_forms() {
        let context = |cipher: &str| {
            let value = json!({
                "metadata": {"name": "a", "namespace": "default"},
                "spec": {"hosts": ["*"], "secret": "a", "cipher_suites": ["ECDHE-RSA-AES128-GCM-SHA256", cipher]}
            });
            reconcile(Kind::TlsContext, value, &Settings::default())
        };
        let found = context("TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA256");
        let forms: Vec<_> = found
            .older
            .iter()
            .map(|older| (older.newest, older.fragment.is_some()))
            .collect();
        assert_eq!(forms, [(EnvoyVersion::minor(37), false)]);
        assert_eq!(context("ECDHE-RSA-AES256-GCM-SHA384").older, []);
    }
}
