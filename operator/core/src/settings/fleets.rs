//! The fleets that a process serves: `AMBASSADOR_ID` is one ID, or several, separated by commas. Each fleet has settings of
//! its own, which differ in the ID only.

use std::{collections::BTreeSet, sync::Arc};

use super::{Error, Settings};

/// Settings of fleets: at least one, sorted by ID, no ID twice. Cheap to clone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fleets(Arc<[Settings]>);

impl Fleets {
    /// The fleets that these settings name: those of one ID are one fleet, whatever it is.
    ///
    /// # Errors
    /// Several IDs, one of which is empty or there twice.
    pub fn split(settings: Settings) -> Result<Self, Error> {
        if !settings.ambassador_id.contains(',') {
            return Ok(settings.into());
        }
        let ids: Vec<&str> = settings.ambassador_id.split(',').map(str::trim).collect();
        let sorted: BTreeSet<&str> = ids.iter().copied().collect();
        if sorted.contains("") || sorted.len() < ids.len() {
            return Err(Error {
                name: "AMBASSADOR_ID",
                value: settings.ambassador_id,
                expected: "one ID, or different IDs separated by commas",
            });
        }
        let of = |id: &str| Settings {
            ambassador_id: id.to_owned(),
            ..settings.clone()
        };
        Ok(Self(sorted.into_iter().map(of).collect()))
    }

    /// The only fleet.
    ///
    /// # Errors
    /// There are several.
    pub fn only(&self) -> Result<&Settings, Error> {
        match &*self.0 {
            [only] => Ok(only),
            _several => Err(Error {
                name: "AMBASSADOR_ID",
                value: self.name(),
                expected: "one ID for this command",
            }),
        }
    }

    /// Settings that do not depend on the ID.
    #[must_use]
    pub fn common(&self) -> &Settings {
        // there is at least one
        &self.0[0]
    }

    /// Whether there are several.
    #[must_use]
    pub fn are_several(&self) -> bool {
        self.0.len() > 1
    }

    /// Settings of each.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &Settings> {
        self.0.iter()
    }

    /// Their IDs, sorted.
    pub fn ids(&self) -> impl ExactSizeIterator<Item = &str> {
        self.0.iter().map(|fleet| fleet.ambassador_id.as_str())
    }

    /// All IDs, separated by commas: equal for the same IDs, in whatever order they were written.
    #[must_use]
    pub fn name(&self) -> String {
        let ids: Vec<&str> = self.ids().collect();
        ids.join(",")
    }

    /// The same fleets with other settings, except for their IDs.
    #[must_use]
    pub fn with(&self, change: impl Fn(Settings) -> Settings) -> Self {
        let change = |fleet: &Settings| Settings {
            ambassador_id: fleet.ambassador_id.clone(),
            ..change(fleet.clone())
        };
        Self(self.0.iter().map(change).collect())
    }
}

/// One fleet.
impl From<Settings> for Fleets {
    fn from(settings: Settings) -> Self {
        Self([settings].into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn split(id: &str) -> Result<Vec<String>, Error> {
        let fleets = Fleets::split(Settings {
            ambassador_id: id.to_owned(),
            ..Settings::default()
        })?;
        assert_eq!(fleets.are_several(), fleets.iter().len() > 1);
        assert_eq!(fleets.only().is_ok(), fleets.iter().len() == 1);
        Ok(fleets.ids().map(str::to_owned).collect())
    }

    #[test]
    fn one_id_is_one_fleet_as_it_is() {
        for id in ["default", " a b ", "\u{e4}", "_automatic_", "a;b"] {
            assert_eq!(split(id).unwrap(), [id]);
        }
    }

    #[test]
    fn several_ids_are_sorted_and_without_spaces_around_them() {
        assert_eq!(split("b, a,c d").unwrap(), ["a", "b", "c d"]);
        let name = |id: &str| {
            let settings = Settings {
                ambassador_id: id.to_owned(),
                ..Settings::default()
            };
            Fleets::split(settings).unwrap().name()
        };
        assert_eq!(name("b, a"), "a,b");
        assert_eq!(name("a,b"), name("b,a"));
        let many: Vec<String> = (0..300).map(|n| format!("{n:03}")).collect();
        assert_eq!(split(&many.join(",")).unwrap(), many);
    }

    #[test]
    fn empty_and_repeated_ids_are_rejected() {
        for id in [",", "a,", ",a", "a,,b", "a, ,b", "a,b,a", "a,a "] {
            let error = split(id).unwrap_err().to_string();
            assert!(error.contains("AMBASSADOR_ID"), "{error}");
            assert!(
                error.contains("different IDs separated by commas"),
                "{error}"
            );
        }
    }

    #[test]
    fn what_needs_one_fleet_names_all_that_there_are() {
        let settings = Settings {
            ambassador_id: "b,a".to_owned(),
            ..Settings::default()
        };
        let error = Fleets::split(settings).unwrap().only().unwrap_err();
        assert!(error.to_string().contains("\"a,b\""), "{error}");
    }
}
