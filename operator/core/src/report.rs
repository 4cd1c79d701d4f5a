//! What we have to say about one object: whether it is accepted, whether what it refers to exists, and every
//! problem with its field and what is served instead. A report is data; `status` turns it into conditions and
//! `nuncio render` prints it.

use std::fmt;

use serde::Serialize;

/// The short word of a condition that programs read: `UpperCamelCase`, part of our interface. The text beside it is for
/// people and may change.
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
    /// A field has a value that cannot be used; the object is not served.
    INVALID = "Invalid";
    /// A part of the object is invalid and ignored; the rest is served.
    PARTIALLY_INVALID = "PartiallyInvalid";
    /// A regular expression that RE2 rejects.
    INVALID_REGEX = "InvalidRegex";
    /// A field that the schema does not have.
    UNKNOWN_FIELD = "UnknownField";
    /// A field that another field makes ineffective.
    IGNORED = "Ignored";
    /// A field that is accepted for compatibility and has no effect.
    WITHOUT_EFFECT = "WithoutEffect";
    /// Something that Nuncio or Envoy does not support.
    NOT_SUPPORTED = "NotSupported";

    /// A file that cannot be read.
    UNREADABLE = "Unreadable";
    /// A document that is not YAML.
    NOT_YAML = "NotYaml";
    /// A document that is not a Kubernetes object.
    NOT_AN_OBJECT = "NotAnObject";
    /// A kind that does not configure the gateway.
    UNKNOWN_KIND = "UnknownKind";
    /// A version of a kind that is not served.
    UNKNOWN_VERSION = "UnknownVersion";
    /// The same object a second time.
    DUPLICATE = "Duplicate";

    /// A Service that does not exist.
    SERVICE_NOT_FOUND = "ServiceNotFound";
    /// A port that the Service does not have.
    PORT_NOT_FOUND = "PortNotFound";
    /// A resolver that does not exist.
    RESOLVER_NOT_FOUND = "ResolverNotFound";
    /// A Secret that does not exist.
    SECRET_NOT_FOUND = "SecretNotFound";
    /// A Secret without what is needed of it.
    INVALID_SECRET = "InvalidSecret";
    /// A TLSContext that does not exist.
    TLS_CONTEXT_NOT_FOUND = "TLSContextNotFound";
    /// A TLSContext that cannot be used.
    INVALID_TLS_CONTEXT = "InvalidTLSContext";
    /// Two references that should name the same Secret.
    SECRET_CONFLICT = "SecretConflict";
    /// A TLSContext that lists other hosts.
    NOT_IN_HOSTS = "NotInHosts";
    /// A TCPMapping with a host for which there is no certificate.
    NO_CERTIFICATE = "NoCertificate";

    /// Two fields of the object contradict each other.
    CONFLICT = "Conflict";
    /// A port that another object has.
    PORT_CONFLICT = "PortConflict";
    /// A hostname that another Host has.
    HOSTNAME_CONFLICT = "HostnameConflict";
    /// A TLS server name that another Host has, with other TLS settings.
    SERVER_NAME_CONFLICT = "ServerNameConflict";
    /// Mappings of one group that disagree.
    GROUP_CONFLICT = "GroupConflict";
    /// A wildcard that TLS cannot match.
    WILDCARD_NOT_FOR_TLS = "WildcardNotForTLS";
    /// TLS settings that QUIC cannot keep.
    NOT_FOR_HTTP3 = "NotForHTTP3";
    /// A setting that needs endpoint routing.
    NEEDS_ENDPOINTS = "NeedsEndpoints";

    /// No Listener serves the object.
    NO_LISTENER = "NoListener";
    /// No Host takes the Mapping.
    NO_MATCHING_HOST = "NoMatchingHost";
    /// The Listener takes no Host.
    NO_HOSTS = "NoHosts";
    /// No TCPMapping uses the port.
    NO_TCP_MAPPINGS = "NoTCPMappings";
    /// Every request is rejected.
    ALL_REJECTED = "AllRejected";
    /// Another Mapping gets every request that this one matches.
    SHADOWED = "Shadowed";
    /// A shadow of nothing.
    NOTHING_TO_SHADOW = "NothingToShadow";
    /// A weight that leaves no traffic.
    NO_SHARE = "NoShare";
    /// Weights that add up to more than 100.
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
    /// As a condition has it.
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

/// One thing that is wrong with an object, or that its author should know.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Problem {
    /// What it does to the object.
    pub severity: Severity,
    /// Which of the two conditions it belongs to.
    pub condition: ConditionType,
    /// Reason for the condition.
    pub reason: Reason,
    /// Path of the field, such as `spec.prefix`; empty when the object as a whole is meant.
    pub path: String,
    /// What is wrong, and what is served instead. Lower case, no final dot.
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

    /// A part of the object is ignored, or not served as it says; the rest is served.
    #[must_use]
    pub fn ignored(reason: Reason, path: impl Into<String>, message: impl Into<String>) -> Self {
        Self {
            severity: Severity::Warning,
            ..Self::invalid(reason, path, message)
        }
    }

    /// Something that the object refers to does not exist, or cannot be used.
    #[must_use]
    pub fn unresolved(reason: Reason, path: impl Into<String>, message: impl Into<String>) -> Self {
        Self {
            condition: ConditionType::ResolvedRefs,
            ..Self::ignored(reason, path, message)
        }
    }

    /// The object is served as it is; a hint for its author.
    #[must_use]
    pub fn notice(reason: Reason, path: impl Into<String>, message: impl Into<String>) -> Self {
        Self {
            severity: Severity::Notice,
            ..Self::invalid(reason, path, message)
        }
    }
}

/// What a problem does to its object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub enum Severity {
    /// Nothing of the object is served.
    Error,
    /// The object is served, but not all that it says.
    Warning,
    /// The object is served as it is; a hint for its author.
    Notice,
}

/// The two conditions that are decided by us alone; the third, `Programmed`, also depends on the Envoys.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub enum ConditionType {
    /// Is the object valid, and free of conflicts with others?
    Accepted,
    /// Does everything that it refers to exist, and is it usable?
    ResolvedRefs,
}

/// Everything we know about one object. Equal reports need no new status.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Report {
    /// `metadata.generation` that this is about; 0 where there is none (files).
    pub generation: i64,
    /// Sorted: most severe first.
    pub problems: Vec<Problem>,
    /// Whether anything of the object is part of what Envoys are told.
    pub in_service: bool,
    /// What is served, in a few words, for the `Programmed` message and for people. For a Mapping, how many Hosts
    /// it is attached to; for a Host, its listeners; may be empty.
    pub summary: String,
}

impl Report {
    /// The most severe problem of a condition, if any.
    #[must_use]
    pub fn problem(&self, condition: ConditionType) -> Option<&Problem> {
        self.problems
            .iter()
            .find(|problem| problem.condition == condition)
    }

    /// Whether the object is taken as it is: nothing worse than a hint.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        self.problems
            .iter()
            .all(|problem| problem.severity == Severity::Notice)
    }

    /// Whether the object is wrong: nothing of it is served because of what it says itself.
    #[must_use]
    pub fn is_error(&self) -> bool {
        self.problems
            .iter()
            .any(|problem| problem.severity == Severity::Error)
    }
}
