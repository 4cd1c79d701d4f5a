//! The resources of the Kubernetes API that kinds stand for.

use kube::api::ApiResource;
use nuncio_core::object::Kind;

/// The API resource of a kind.
#[must_use]
pub fn api_resource(kind: Kind) -> ApiResource {
    let (group, version) = (kind.group(), kind.version());
    ApiResource {
        group: group.to_owned(),
        version: version.to_owned(),
        api_version: if group.is_empty() {
            version.to_owned()
        } else {
            format!("{group}/{version}")
        },
        kind: kind.name().to_owned(),
        plural: kind.plural().to_owned(),
    }
}
