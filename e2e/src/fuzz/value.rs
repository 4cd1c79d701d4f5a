//! Arbitrary values that pass a schema.

use nuncio_core::object::Kind;
use serde_json::{Map, Number, Value};

use super::{hostile, meaning, random::Random};

/// How an object is written.
pub(super) struct Author<'a> {
    pub(super) random: &'a mut Random,
    /// How many of a hundred optional fields are set.
    pub(super) diligence: usize,
    /// How many of a hundred values are hostile.
    pub(super) hostility: usize,
    /// The kind, and the names of fields.
    path: Vec<String>,
}

impl<'a> Author<'a> {
    /// Someone of a random temper.
    pub(super) fn any(kind: Kind, random: &'a mut Random) -> Self {
        let diligence = [3, 10, 30, 70, 100][random.below(5)];
        let hostility = [0, 0, 2, 10, 50][random.below(5)];
        Self {
            random,
            diligence,
            hostility,
            path: vec![kind.name().to_owned()],
        }
    }

    /// A value that passes this schema.
    pub(super) fn value(&mut self, schema: &Value) -> Value {
        let kind = schema["type"].as_str().unwrap_or_default();
        match kind {
            "object" => self.object(schema),
            "array" => self.array(schema),
            "string" => Value::String(self.text(schema)),
            "integer" | "number" => Value::Number(Number::from(self.number(schema))),
            "boolean" => Value::Bool(self.random.percent(60)),
            _ => self.anything(2),
        }
    }

    fn object(&mut self, schema: &Value) -> Value {
        if let Some(values) = schema
            .get("additionalProperties")
            .filter(|values| values.is_object())
        {
            return self.map(values);
        }
        let Some(properties) = schema["properties"].as_object() else {
            return self.anything_with(2, true);
        };
        let required: Vec<&str> = schema["required"]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(Value::as_str)
            .collect();
        let mut names: Vec<&String> = properties
            .keys()
            .filter(|name| required.contains(&name.as_str()) || self.random.percent(self.diligence))
            .collect();
        let bound = |bound: &str| schema[bound].as_u64().map(|bound| bound as usize);
        while names.len() < bound("minProperties").unwrap_or(0).min(properties.len()) {
            let more: Vec<&String> = properties
                .keys()
                .filter(|name| !names.contains(name))
                .collect();
            names.push(more[self.random.below(more.len())]);
        }
        while names.len() > bound("maxProperties").unwrap_or(usize::MAX) {
            names.remove(self.random.below(names.len()));
        }
        let fields = names
            .into_iter()
            .map(|name| (name.clone(), self.at(name, &properties[name.as_str()])));
        Value::Object(fields.collect())
    }

    /// A value one level deeper.
    fn at(&mut self, name: &str, schema: &Value) -> Value {
        self.path.push(name.to_owned());
        let value = self.value(schema);
        self.path.pop();
        value
    }

    fn map(&mut self, values: &Value) -> Value {
        let mut map = Map::new();
        for _ in 0..self.several() {
            let name = self.text(&Value::Null);
            map.insert(name.clone(), self.value(values));
        }
        Value::Object(map)
    }

    fn array(&mut self, schema: &Value) -> Value {
        if self.path.last().is_some_and(|name| name == "protocolStack") && self.random.percent(60) {
            return self.stack();
        }
        let least = schema["minItems"].as_u64().unwrap_or(0) as usize;
        let items = (0..self.several().max(least)).map(|_| self.value(&schema["items"]));
        Value::Array(items.collect())
    }

    /// A stack of protocols that can be served.
    fn stack(&mut self) -> Value {
        let text = self.random.pick(&[
            "HTTP TCP",
            "TLS HTTP TCP",
            "PROXY TLS HTTP TCP",
            "PROXY TCP",
            "TLS TCP",
            "TCP",
        ]);
        text.split(' ')
            .map(|layer| Value::String(layer.to_owned()))
            .collect()
    }

    fn several(&mut self) -> usize {
        match self.random.below(20) {
            0 => 0,
            1 if self.hostility > 0 => 30,
            number => 1 + number % 4,
        }
    }

    fn is_hostile(&mut self) -> bool {
        self.random.percent(self.hostility)
    }

    fn text(&mut self, schema: &Value) -> String {
        let choices: Vec<&str> = schema["enum"]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(Value::as_str)
            .collect();
        if !choices.is_empty() {
            return self.random.pick(&choices).to_owned();
        }
        if let Some(pattern) = schema["pattern"].as_str() {
            return self.matching(pattern);
        }
        if self.is_hostile() {
            hostile::text(self.random)
        } else {
            meaning::text(&self.path, self.random)
        }
    }

    /// The schemas have two patterns: that of a scheme, and that of a number or a duration.
    fn matching(&mut self, pattern: &str) -> String {
        let choices = if pattern.contains("[hH]") {
            &["", "http://", "HTTPS://"][..]
        } else {
            &["", "1s", "0s", "1h2m3.4s", "500ms"]
        };
        self.random.pick(choices).to_owned()
    }

    fn number(&mut self, schema: &Value) -> i64 {
        let field = self.path.last().map_or("", String::as_str);
        let number = if self.random.percent(self.hostility) {
            hostile::number(self.random)
        } else {
            meaning::number(field, self.random)
        };
        let bound = |bound: &str| schema[bound].as_f64().map(|bound| bound as i64);
        let number = match schema["format"].as_str() {
            Some("int32") => number.clamp(i32::MIN.into(), i32::MAX.into()),
            _ => number,
        };
        number
            .max(bound("minimum").unwrap_or(i64::MIN))
            .min(bound("maximum").unwrap_or(i64::MAX))
    }

    /// What has no schema.
    pub(super) fn anything(&mut self, depth: usize) -> Value {
        self.anything_with(depth, false)
    }

    fn anything_with(&mut self, depth: usize, object: bool) -> Value {
        let choice = if object {
            7
        } else {
            self.random.below(if depth == 0 { 6 } else { 8 })
        };
        match choice {
            0 => Value::Null,
            1 => Value::Bool(self.random.percent(50)),
            2 => hostile::number(self.random).into(),
            3 => self
                .random
                .pick(&[&0.5, &-1.5e300, &1e-300])
                .to_owned()
                .into(),
            4 | 5 => hostile::text(self.random).into(),
            6 => (0..self.random.below(4))
                .map(|_| self.anything(depth - 1))
                .collect(),
            _ => (0..self.random.below(4))
                .map(|_| {
                    (
                        hostile::text(self.random),
                        self.anything(depth.saturating_sub(1)),
                    )
                })
                .collect(),
        }
    }
}
