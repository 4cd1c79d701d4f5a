//! The schemas of what users write, from the CustomResourceDefinitions that are installed.

use std::{collections::BTreeMap, fs};

use anyhow::{Context as _, Result};
use nuncio_core::object::Kind;
use serde_json::Value;

use crate::workspace::root;

/// Schema of the `spec` of each kind that is written at random: all that can be invalid, which are those with a status.
pub(super) struct Schemas(BTreeMap<Kind, Value>);

impl Schemas {
    pub(super) fn load() -> Result<Self> {
        let kinds = Kind::ALL.into_iter().filter(|kind| kind.has_status());
        let schemas = kinds.map(|kind| load(kind).map(|schema| (kind, schema)));
        Ok(Self(schemas.collect::<Result<_>>()?))
    }

    pub(super) fn of(&self, kind: Kind) -> &Value {
        self.0.get(&kind).unwrap_or(&Value::Null)
    }
}

fn load(kind: Kind) -> Result<Value> {
    if kind == Kind::Module {
        return Ok(super::module::schema());
    }
    if kind == Kind::KnativeIngress {
        return Ok(super::knative::schema());
    }
    let name = format!("{}_{}.yaml", kind.group(), kind.plural());
    let path = root().join("config/crd/bases").join(name);
    let text =
        fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
    let definition: Value = serde_saphyr::from_str(&text)?;
    let spec = "/spec/versions/0/schema/openAPIV3Schema/properties/spec";
    let schema = definition.pointer(spec);
    schema
        .cloned()
        .with_context(|| format!("{} has no schema of a spec", path.display()))
}
