//! Versions of Envoy, as Envoys and users say them.

use std::{error::Error, fmt, str::FromStr};

/// A minor version of Envoy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct EnvoyVersion {
    /// Major version.
    pub major: u32,
    /// Minor version.
    pub minor: u32,
}

impl EnvoyVersion {
    /// The oldest version of which it is known what it lacks.
    pub const OLDEST: Self = Self::minor(36);
    /// The version that everything is rendered for.
    pub const NEWEST: Self = Self::minor(40);

    /// A version 1.x.
    #[must_use]
    pub const fn minor(minor: u32) -> Self {
        Self { major: 1, minor }
    }
}

impl Default for EnvoyVersion {
    fn default() -> Self {
        Self::NEWEST
    }
}

impl fmt::Display for EnvoyVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

/// The text is no version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InvalidVersion;

impl fmt::Display for InvalidVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("must be a minor version, such as 1.38")
    }
}

impl Error for InvalidVersion {}

impl FromStr for EnvoyVersion {
    type Err = InvalidVersion;

    fn from_str(text: &str) -> Result<Self, InvalidVersion> {
        let number = |text: &str| text.parse().ok();
        let (major, minor) = text.split_once('.').ok_or(InvalidVersion)?;
        let parsed = number(major).zip(number(minor));
        let (major, minor) = parsed.ok_or(InvalidVersion)?;
        Ok(Self { major, minor })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_ordered_by_number() {
        let version = |text: &str| text.parse::<EnvoyVersion>().unwrap();
        assert!(version("1.9") < EnvoyVersion::OLDEST);
        assert!(version("1.36") < version("1.40"));
        assert_eq!(version("1.40").to_string(), "1.40");
        for text in ["", "1", "1.x", "1.36.4", "v1.36"] {
            assert_eq!(text.parse::<EnvoyVersion>(), Err(InvalidVersion), "{text}");
        }
    }
}
