//! The environment variables of Consul's own client, for what a resolver does not say.

use std::path::PathBuf;

use nuncio_core::settings::Variables;

/// Where an agent is expected if nothing says otherwise.
const ADDRESS: &str = "127.0.0.1:8500";

/// The environment of the process.
#[derive(Clone, Debug, Default)]
pub struct Environment(Variables);

impl Environment {
    /// That of this process, as it is now.
    #[must_use]
    pub fn of_process() -> Self {
        std::env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
            .collect()
    }

    /// A variable; `None` if it is not set, or empty.
    pub(super) fn get(&self, name: &str) -> Option<&str> {
        let value = self.0.get(name);
        value.filter(|value| !value.is_empty())
    }

    /// All variables.
    pub(super) fn variables(&self) -> &Variables {
        &self.0
    }

    pub(super) fn path(&self, name: &str) -> Option<PathBuf> {
        self.get(name).map(Into::into)
    }

    /// A boolean in the forms of Go; `None` if it is not set.
    ///
    /// # Errors
    /// It has another form.
    pub(super) fn boolean(&self, name: &str) -> Result<Option<bool>, String> {
        match self.get(name) {
            None => Ok(None),
            Some("1" | "t" | "T" | "TRUE" | "true" | "True") => Ok(Some(true)),
            Some("0" | "f" | "F" | "FALSE" | "false" | "False") => Ok(Some(false)),
            Some(_) => Err(format!("{name} must be true or false")),
        }
    }

    /// The address of an agent, with variables.
    pub(super) fn address<'a>(&'a self, written: Option<&'a str>) -> &'a str {
        written
            .or_else(|| self.get("CONSUL_HTTP_ADDR"))
            .unwrap_or(ADDRESS)
    }

    /// What messages call an agent: never the value of a variable.
    pub(super) fn shown<'a>(&self, written: Option<&'a str>) -> &'a str {
        let default = match self.get("CONSUL_HTTP_ADDR") {
            Some(_) => "$CONSUL_HTTP_ADDR",
            None => ADDRESS,
        };
        written.unwrap_or(default)
    }
}

impl FromIterator<(String, String)> for Environment {
    fn from_iter<I: IntoIterator<Item = (String, String)>>(variables: I) -> Self {
        Self(variables.into_iter().collect())
    }
}
