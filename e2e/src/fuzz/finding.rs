//! Defects, and how they are printed.

use std::fmt;

use super::batch::Object;

/// Kind of a defect.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum What {
    /// Our code panics.
    Panic,
    /// An object is not served, and its report does not say why.
    Unreported,
    /// A resource cannot be written to a dump.
    NotShown,
    /// A Store that has seen other batches renders other resources than a new one.
    Differs,
    /// Envoy rejects a resource.
    Rejected,
    /// Envoy does not become ready.
    Silent,
    /// Envoy exits.
    Died,
}

impl fmt::Display for What {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Panic => "panic",
            Self::Unreported => "neither served nor reported",
            Self::NotShown => "no dump",
            Self::Differs => "a Store with a history differs from a new one",
            Self::Rejected => "Envoy rejects",
            Self::Silent => "Envoy does not become ready",
            Self::Died => "Envoy exited",
        })
    }
}

/// A defect.
#[derive(Clone, Debug)]
pub(super) struct Finding {
    pub(super) what: What,
    /// Kind of the object or of the resource.
    subject: String,
    pub(super) message: String,
}

impl Finding {
    pub(super) fn new(what: What, subject: &str, message: String) -> Self {
        Self {
            what,
            subject: subject.to_owned(),
            message,
        }
    }

    /// Equal for the same defect, as far as a text can show: quoted names and values are left out.
    pub(super) fn signature(&self) -> (What, String, String) {
        let mut quoted = false;
        let mut words = String::new();
        for character in self.message.chars() {
            if matches!(character, '\'' | '"') {
                quoted = !quoted;
            } else if !quoted && character.is_ascii_alphabetic() {
                words.push(character);
            }
        }
        words.truncate(60);
        (self.what, self.subject.clone(), words)
    }

    /// Whether Envoy has truncated its message, whose end has the reason.
    pub(super) fn is_cut(&self) -> bool {
        self.message.ends_with("(truncated)")
    }

    /// Whether this may be the same defect, after a reduction.
    pub(super) fn is_like(&self, whole: &Self) -> bool {
        if whole.is_cut() {
            return self.what == whole.what && self.subject == whole.subject;
        }
        self.signature() == whole.signature()
    }

    /// As text, with the objects that it needs.
    pub(super) fn describe(&self, seed: u64, objects: &[Object]) -> String {
        let yaml = objects.iter().map(|object| {
            serde_saphyr::to_string(&object.value).unwrap_or_else(|_| object.value.to_string())
        });
        let yaml: Vec<String> = yaml.collect();
        format!("# {self}\n# seed {seed}\n{}", yaml.join("---\n"))
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let message: Vec<char> = self.message.escape_debug().collect();
        // Envoy writes the whole resource first and the reason last
        let cut = if message.len() > 1000 { "…" } else { "" };
        let end: String = message[message.len().saturating_sub(1000)..]
            .iter()
            .collect();
        write!(f, "{} ({}): {cut}{end}", self.what, self.subject)
    }
}
