//! From the text of a file to reconciled objects, document by document.

use serde_json::Value;

use super::{Form, not_an_object};
use nuncio_core::{
    annotation::{self, Annotation},
    change::{Owned, Reconciled},
    object::ObjectRef,
    reconcile::{identify, reconcile},
    report::Reason,
    settings::Fleets,
    variable::expanded,
    yaml::{invalid, split},
};

/// A namespace that stands for the gateway's own.
const OWN_NAMESPACE: &str = "_automatic_";
/// A kind of document that only names the place of others, for messages.
const PRAGMA: &str = "Pragma";

/// An object in a document.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Found {
    /// The object.
    pub(super) object: Reconciled,
    /// What its annotation yields; `None` if that is nothing.
    pub(super) annotated: Option<Owned>,
}

impl Found {
    /// Which object it is.
    pub(super) fn name(&self) -> &ObjectRef {
        &self.object.object
    }
}

impl From<Reconciled> for Found {
    fn from(object: Reconciled) -> Self {
        Self {
            object,
            annotated: None,
        }
    }
}

/// The objects in a text. Documents are parsed one by one, so that an invalid one hides no other. Variables are replaced
/// before, so that `port: $PORT` is a number.
pub(super) fn documents(file: &str, text: &str, form: Form, fleet: &Fleets) -> Vec<Found> {
    split(text)
        .into_iter()
        .enumerate()
        .flat_map(|(index, (line, text))| {
            let place = format!("{file}#{}", index + 1);
            match parse(&expanded(text, &fleet.common().variables)) {
                Ok(value) => objects(&place, value, form, fleet),
                Err(error) => {
                    let message = invalid(line, &error);
                    vec![not_an_object(&place, Reason::NOT_YAML, &message).into()]
                }
            }
        })
        .collect()
}

/// One document. The parser's default limits protect from hostile input; they are raised for lists of thousands of
/// objects.
fn parse(text: &str) -> Result<Value, serde_saphyr::Error> {
    let options = serde_saphyr::options! {
        budget: serde_saphyr::budget! { max_nodes: 8_000_000, max_events: 32_000_000 },
    };
    serde_saphyr::from_str_with_options(text, options)
}

fn objects(place: &str, value: Value, form: Form, fleet: &Fleets) -> Vec<Found> {
    let settings = fleet.common();
    if value.is_null() {
        return Vec::new(); // only comments
    }
    if value["kind"]
        .as_str()
        .is_some_and(|kind| kind.ends_with("List"))
        && value["items"].is_array()
    {
        let Some(Value::Array(items)) = value.get("items").cloned() else {
            return Vec::new();
        };
        let item = |(index, item)| {
            let place = format!("{place}.{}", index + 1);
            objects(&place, item, form, fleet)
        };
        return items.into_iter().enumerate().flat_map(item).collect();
    }
    let mut value = match (form, value) {
        (Form::Flat, Value::Object(document)) => {
            if document.get("kind").is_some_and(|kind| kind == PRAGMA) {
                return Vec::new();
            }
            Value::Object(annotation::unfolded(document))
        }
        (_, value) => value,
    };
    if let Some(namespace) = value.pointer_mut("/metadata/namespace")
        && namespace == OWN_NAMESPACE
    {
        *namespace = settings.ambassador_namespace.as_str().into();
    }
    match identify(&value) {
        Ok(kind) => {
            let annotation = Annotation::of(kind, &value, fleet);
            let mut found = reconcile(kind, value, settings);
            let elsewhere = settings
                .single_namespace
                .as_deref()
                .is_some_and(|only| only != &*found.object.namespace);
            if elsewhere {
                return Vec::new();
            }
            let annotated = annotation.and_then(|annotation| {
                found.add_problems(&annotation.problems);
                annotation.into_owned(&found.object).pop()
            });
            vec![Found {
                object: found,
                annotated: annotated.filter(|owned| !owned.objects.is_empty()),
            }]
        }
        Err(problem) => {
            let mut report = not_an_object(place, problem.reason, &problem.message);
            report.problems = vec![problem];
            vec![report.into()]
        }
    }
}

#[cfg(test)]
mod tests {
    use nuncio_core::settings::Settings;

    use super::*;

    fn message(text: &str) -> String {
        let found = documents("a.yaml", text, Form::Manifests, &Settings::default().into());
        found
            .iter()
            .flat_map(|found| &found.object.problems)
            .map(|p| p.message.clone())
            .collect()
    }

    #[test]
    fn an_error_has_its_line_in_the_file() {
        for text in [
            "# one\n---\nkind: x\nspec: {a: [1, 2\n",
            "# one\n---\nkind: x\nspec: a: b\n",
        ] {
            assert!(
                message(text).starts_with("invalid YAML at line 4, column "),
                "{}",
                message(text)
            );
        }
    }

    #[test]
    fn variables_are_replaced_before_a_document_is_parsed() {
        let settings = Settings {
            variables: [("PORT".to_owned(), "8080".to_owned())].into(),
            ..Settings::default()
        };
        let listener = |port: &str| {
            let text = format!(
                "apiVersion: getambassador.io/v3alpha1\nkind: Listener\nmetadata: {{name: '$PORT$X'}}\nspec: {{port: {port}, protocol: HTTP, securityModel: XFP, hostBinding: {{namespace: {{from: ALL}}}}}}"
            );
            documents("a.yaml", &text, Form::Manifests, &settings.clone().into())
        };
        let found = listener("${PORT}");
        assert_eq!(found, listener("8080"));
        assert_eq!(&*found[0].name().name, "8080$X");
        assert!(
            found[0].object.fragment.is_some(),
            "{:?}",
            found[0].object.problems
        );
    }

    #[test]
    fn a_list_of_many_thousand_objects_is_within_the_limits() {
        let list = format!("items: [{}]", "1,".repeat(300_000));
        assert_eq!(
            parse(&list).unwrap()["items"].as_array().map(Vec::len),
            Some(300_000)
        );
    }

    #[test]
    fn an_alias_bomb_is_rejected() {
        let mut text = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
        for level in 1..12 {
            let below = format!("*a{},", level - 1).repeat(10);
            text.push_str(&format!("a{level}: &a{level} [{below}]\n"));
        }
        assert!(
            message(&text).contains("invalid YAML"),
            "{}",
            message(&text)
        );
    }
}
