//! Cross-origin resource sharing.

use nuncio_crds::field;
use nuncio_ir::Cors;

use crate::{reconcile::ignored, report::Problem};

/// The policy; texts that a header cannot contain are ignored.
pub(super) fn cors(cors: &field::Cors, problems: &mut Vec<Problem>) -> Cors {
    let mut texts = |field: &str, texts: &[String]| -> Vec<String> {
        let mut kept = Vec::new();
        for (index, text) in texts.iter().enumerate() {
            // version v2 separates items by commas and keeps the blanks after them
            let text = text.trim();
            if text.is_empty() || text.chars().any(char::is_control) {
                let path = format!("spec.cors.{field}[{index}]");
                problems.push(ignored(
                    path,
                    "must not be empty or contain control characters",
                ));
            } else {
                kept.push(text.to_owned());
            }
        }
        kept
    };
    let origins = texts("origins", &cors.origins);
    let methods = texts("methods", &cors.methods).join(", ");
    let headers = texts("headers", &cors.headers).join(", ");
    let exposed_headers = texts("exposed_headers", &cors.exposed_headers).join(", ");
    let max_age = cors.max_age.iter().cloned().collect::<Vec<_>>();
    let max_age = texts("max_age", &max_age).join("");
    Cors {
        origins,
        methods,
        headers,
        exposed_headers,
        max_age,
        credentials: cors.credentials == Some(true),
    }
}
