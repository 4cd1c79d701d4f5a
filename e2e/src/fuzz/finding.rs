//! What is wrong, and how it is told.

use std::fmt;

use super::batch::Object;

/// What must not happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum What {
    /// Our own code panics.
    Panic,
    /// An object is not served and nobody is told why.
    Untold,
    /// A resource cannot be shown in a dump.
    NotShown,
    /// A store that has seen other batches before makes something else of it.
    Differs,
    /// Envoy refuses a resource.
    Refused,
    /// Envoy waits for something that never comes.
    Silent,
    /// Envoy ends.
    Died,
}

impl fmt::Display for What {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Panic => "panic",
            Self::Untold => "neither served nor told",
            Self::NotShown => "no dump",
            Self::Differs => "a store with a past differs from a new one",
            Self::Refused => "Envoy refuses",
            Self::Silent => "Envoy does not get ready",
            Self::Died => "Envoy ended",
        })
    }
}

/// Something that is wrong.
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

    /// The same for the same defect, as well as a text can tell: what objects bring into it is left out.
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

    /// Whether Envoy has cut its message, and with it what is wrong.
    pub(super) fn is_cut(&self) -> bool {
        self.message.ends_with("(truncated)")
    }

    /// Whether this may be the same defect, of which less is left.
    pub(super) fn is_like(&self, whole: &Self) -> bool {
        if whole.is_cut() {
            return self.what == whole.what && self.subject == whole.subject;
        }
        self.signature() == whole.signature()
    }

    /// For people, with the objects that it takes.
    pub(super) fn tell(&self, seed: u64, objects: &[Object]) -> String {
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
        // Envoy begins with the whole resource and ends with what is wrong
        let cut = if message.len() > 1000 { "…" } else { "" };
        let end: String = message[message.len().saturating_sub(1000)..]
            .iter()
            .collect();
        write!(f, "{} ({}): {cut}{end}", self.what, self.subject)
    }
}
