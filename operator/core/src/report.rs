//! The report of one object: whether it is accepted, whether its references resolve, and every problem with its field
//! and its outcome. A report is data; `status` turns it into conditions and `nuncio render` prints it.

use std::{fmt, sync::Arc};

use serde::{Serialize, Serializer};

use crate::object::ObjectRef;

/// Reason of a condition, for programs: `UpperCamelCase`, part of our interface. The message beside it is for people
/// and may change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(transparent)]
pub struct Reason(&'static str);

macro_rules! reasons {
    ($($(#[$doc:meta])* $name:ident = $text:literal;)*) => {
        impl Reason {
            $($(#[$doc])* pub const $name: Self = Self($text);)*

            /// Every reason of a problem.
            pub const ALL: &[Self] = &[$(Self::$name),*];
        }
    };
}

reasons! {
    /// The object is invalid and not served. Only for [`Problem::invalid`].
    INVALID = "Invalid";
    /// Parts of the object are invalid and ignored; the rest is served.
    PARTIALLY_INVALID = "PartiallyInvalid";
    /// A regular expression is invalid for RE2.
    INVALID_REGEX = "InvalidRegex";
    /// The schema does not have the field.
    UNKNOWN_FIELD = "UnknownField";
    /// Another field overrides the field.
    IGNORED = "Ignored";
    /// The field is accepted for compatibility and has no effect.
    WITHOUT_EFFECT = "WithoutEffect";
    /// Nuncio or Envoy does not support it.
    NOT_SUPPORTED = "NotSupported";

    /// The file cannot be read.
    UNREADABLE = "Unreadable";
    /// The document is not YAML.
    NOT_YAML = "NotYaml";
    /// The document is not a Kubernetes object.
    NOT_AN_OBJECT = "NotAnObject";
    /// The kind does not configure the gateway.
    UNKNOWN_KIND = "UnknownKind";
    /// This version of Nuncio does not support the kind.
    UNSUPPORTED_KIND = "UnsupportedKind";
    /// The version of the kind is not served.
    UNKNOWN_VERSION = "UnknownVersion";
    /// The same object is in another document.
    DUPLICATE = "Duplicate";

    /// The Service does not exist.
    SERVICE_NOT_FOUND = "ServiceNotFound";
    /// An upstream that is the control plane itself.
    OWN_ENDPOINT = "OwnEndpoint";
    /// A Service or a name without an address of an enabled family.
    NO_ADDRESS = "NoAddress";
    /// The Service does not have the port.
    PORT_NOT_FOUND = "PortNotFound";
    /// The resolver does not exist.
    RESOLVER_NOT_FOUND = "ResolverNotFound";
    /// The resolver is invalid.
    INVALID_RESOLVER = "InvalidResolver";
    /// The Consul agent of a resolver cannot be queried.
    CONSUL_UNAVAILABLE = "ConsulUnavailable";
    /// The Secret does not exist.
    SECRET_NOT_FOUND = "SecretNotFound";
    /// An entry of the Secret is missing or invalid.
    INVALID_SECRET = "InvalidSecret";
    /// The TLSContext does not exist.
    TLS_CONTEXT_NOT_FOUND = "TLSContextNotFound";
    /// The TLSContext is invalid.
    INVALID_TLS_CONTEXT = "InvalidTLSContext";
    /// The AuthService does not exist.
    AUTH_SERVICE_NOT_FOUND = "AuthServiceNotFound";
    /// The AuthService is invalid.
    INVALID_AUTH_SERVICE = "InvalidAuthService";
    /// Another AuthService has another value.
    AUTH_SERVICE_CONFLICT = "AuthServiceConflict";
    /// Two references that must name the same Secret name different ones.
    SECRET_CONFLICT = "SecretConflict";
    /// The TLSContext lists other hosts.
    NOT_IN_HOSTS = "NotInHosts";
    /// The certificate that is served has expired.
    CERTIFICATE_EXPIRED = "CertificateExpired";
    /// The certificate that is served expires soon.
    CERTIFICATE_EXPIRES_SOON = "CertificateExpiresSoon";
    /// There is no certificate for the host.
    NO_CERTIFICATE = "NoCertificate";

    /// Two fields of the object contradict each other.
    CONFLICT = "Conflict";
    /// Another object has the port.
    PORT_CONFLICT = "PortConflict";
    /// An object of another namespace shares or takes over traffic, or a Secret of another namespace is used.
    CROSS_NAMESPACE = "CrossNamespace";
    /// Another Host has the hostname.
    HOSTNAME_CONFLICT = "HostnameConflict";
    /// Another Host has the TLS server name, with other TLS settings.
    SERVER_NAME_CONFLICT = "ServerNameConflict";
    /// Another Mapping of the group has another value.
    GROUP_CONFLICT = "GroupConflict";
    /// TLS cannot match the wildcard.
    WILDCARD_NOT_FOR_TLS = "WildcardNotForTLS";
    /// HTTP/3 does not support the TLS settings.
    NOT_FOR_HTTP3 = "NotForHTTP3";
    /// The certificate of the upstream is not verified.
    UNVERIFIED_UPSTREAM = "UnverifiedUpstream";
    /// The setting needs endpoint routing.
    NEEDS_ENDPOINTS = "NeedsEndpoints";

    /// No Listener serves the object.
    NO_LISTENER = "NoListener";
    /// No Host matches the Mapping.
    NO_MATCHING_HOST = "NoMatchingHost";
    /// No Host matches the Listener.
    NO_HOSTS = "NoHosts";
    /// No TCPMapping uses the port.
    NO_TCP_MAPPINGS = "NoTCPMappings";
    /// Every request is rejected.
    ALL_REJECTED = "AllRejected";
    /// Another Mapping matches every request first.
    SHADOWED = "Shadowed";
    /// No other Mapping has the match of a shadow.
    NOTHING_TO_SHADOW = "NothingToShadow";
    /// Requests that the object matches get 503.
    UNAVAILABLE = "Unavailable";
    /// A condition that no request meets.
    NEVER_MATCHES = "NeverMatches";
    /// The weights leave no traffic.
    NO_SHARE = "NoShare";
    /// Another object of the kind, of which one is used, comes first.
    NOT_FIRST = "NotFirst";
    /// The weights add up to more than 100.
    WEIGHTS_EXCEED_HUNDRED = "WeightsExceedHundred";
}

/// Reasons of conditions without a problem, and of `Programmed`.
impl Reason {
    /// `Accepted` is true.
    pub const ACCEPTED: Self = Self("Accepted");
    /// `ResolvedRefs` is true.
    pub const RESOLVED_REFS: Self = Self("ResolvedRefs");
    /// Every connected Envoy serves the object as it is.
    pub const PROGRAMMED: Self = Self("Programmed");
    /// Some connected Envoys have not acknowledged the object yet.
    pub const PENDING: Self = Self("Pending");
    /// No Envoy is connected.
    pub const NO_ENVOYS: Self = Self("NoEnvoys");
    /// The object is not part of the configuration.
    pub const NOT_SERVED: Self = Self("NotServed");
    /// An Envoy rejected the object's configuration.
    pub const REJECTED: Self = Self("Rejected");
}

impl Reason {
    /// The text in a condition.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        self.0
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

/// One problem of an object, or a hint for its author.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Problem {
    /// Its effect on the object.
    pub severity: Severity,
    /// Which of the two conditions it belongs to.
    pub condition: ConditionType,
    /// Reason for the condition.
    pub reason: Reason,
    /// Path of the field, such as `spec.prefix`; empty for the object as a whole.
    pub path: String,
    /// The fact, then the outcome. Lower case, no final dot.
    pub message: String,
}

impl Problem {
    /// The object is invalid and not served.
    #[must_use]
    pub fn invalid(reason: Reason, path: impl Into<String>, message: impl Into<String>) -> Self {
        Self {
            severity: Severity::Error,
            condition: ConditionType::Accepted,
            reason,
            path: path.into(),
            message: message.into(),
        }
    }

    /// A part of the object is ignored, or not served as configured; or the object is valid, and not served because of
    /// others. The object stays accepted, so the reason is never [`Reason::INVALID`].
    #[must_use]
    pub fn ignored(reason: Reason, path: impl Into<String>, message: impl Into<String>) -> Self {
        debug_assert!(
            reason != Reason::INVALID,
            "an object that is accepted is not Invalid but PartiallyInvalid"
        );
        Self {
            severity: Severity::Warning,
            ..Self::invalid(reason, path, message)
        }
    }

    /// A reference of the object does not exist or is invalid.
    #[must_use]
    pub fn unresolved(reason: Reason, path: impl Into<String>, message: impl Into<String>) -> Self {
        Self {
            condition: ConditionType::ResolvedRefs,
            ..Self::ignored(reason, path, message)
        }
    }

    /// The object is served as configured; a hint for its author.
    #[must_use]
    pub fn notice(reason: Reason, path: impl Into<String>, message: impl Into<String>) -> Self {
        Self {
            severity: Severity::Notice,
            ..Self::ignored(reason, path, message)
        }
    }
}

/// The effect of a problem on its object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub enum Severity {
    /// The object is invalid and not served.
    Error,
    /// The object is accepted, but not served entirely as configured.
    Warning,
    /// The object is served as configured; a hint for its author.
    Notice,
}

/// The conditions that do not depend on the Envoys; `Programmed` does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub enum ConditionType {
    /// Whether the object is valid.
    Accepted,
    /// Whether everything that it refers to exists and is valid.
    ResolvedRefs,
}

/// The report of one object. Equal reports need no new status.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Report {
    /// The `metadata.generation` that was reconciled; 0 where there is none (files).
    pub generation: i64,
    /// Sorted: most severe first.
    pub problems: Vec<Problem>,
    /// Whether any part of the object is in the configuration of the Envoys.
    pub in_service: bool,
    /// What is served, in a few words, for the message of `Programmed`: for a Mapping its Hosts, for a Host its
    /// listeners. May be empty.
    pub summary: String,
    /// The object that this one is generated from, as an Ingress yields Mappings. The cluster has no such object.
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "as_text")]
    pub owner: Option<Arc<ObjectRef>>,
    /// The number of the document in the annotation of the owner, from 1, if it is from an annotation.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub document: Option<u32>,
}

fn as_text<S: Serializer>(
    owner: &Option<Arc<ObjectRef>>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    serializer.collect_str(
        owner
            .as_deref()
            .map_or(&"" as &dyn fmt::Display, |owner| owner),
    )
}

impl Report {
    /// The most severe problem of a condition, if any.
    #[must_use]
    pub fn problem(&self, condition: ConditionType) -> Option<&Problem> {
        self.problems
            .iter()
            .find(|problem| problem.condition == condition)
    }

    /// Whether there is nothing worse than a hint.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        self.problems
            .iter()
            .all(|problem| problem.severity == Severity::Notice)
    }

    /// Whether the object is invalid.
    #[must_use]
    pub fn is_error(&self) -> bool {
        self.problems
            .iter()
            .any(|problem| problem.severity == Severity::Error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[should_panic(expected = "PartiallyInvalid")]
    fn an_accepted_object_is_not_invalid() {
        let _ = Problem::ignored(Reason::INVALID, "spec", "ignored");
    }
}
