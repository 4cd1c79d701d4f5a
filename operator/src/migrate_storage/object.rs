//! Storing one object again.

use kube::{
    Api, Error,
    api::{ObjectMeta, Patch, PatchParams},
    core::{ApiResource, DynamicObject},
};
use serde_json::json;

use super::{
    Context,
    list::Metadata,
    retry::{may_pass, retried, text},
};

/// What became of an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// It was stored again.
    Rewritten,
    /// It was stored in this version before, by this program or another one.
    Current,
    /// It was deleted.
    Gone,
    /// It was not looked at, because the run was interrupted.
    Interrupted,
    /// It is stored as before, for this reason.
    Failed {
        reason: String,
        /// Whether it is to blame, and not the apiserver or the webhook.
        is_final: bool,
    },
    /// No object can be stored.
    Forbidden(String),
}

impl Context {
    /// Has the apiserver store an object again.
    pub(super) async fn rewrite(&self, resource: &ApiResource, listed: &ObjectMeta) -> Outcome {
        if self.stop.is_cancelled() {
            return Outcome::Interrupted;
        }
        let namespace = listed.namespace.as_deref().unwrap_or_default();
        let name = listed.name.as_deref().unwrap_or_default();
        let api: Api<DynamicObject> =
            Api::namespaced_with(self.client.clone(), namespace, resource);
        let parameters = PatchParams {
            dry_run: self.dry_run,
            ..PatchParams::default()
        };
        // without a resourceVersion, so that the apiserver itself tries again if another program writes at the same time
        let nothing = Patch::Merge(json!({}));
        let answer = retried(&self.stop, async || {
            api.patch_metadata(name, &parameters, &nothing).await
        })
        .await;
        match answer {
            Err(error) if self.stop.is_cancelled() && may_pass(&error) => Outcome::Interrupted,
            // the answer has the resourceVersion that is stored
            Ok(_) if self.dry_run => Outcome::Rewritten,
            answer => outcome(answer, listed),
        }
    }
}

fn outcome(answer: Result<Metadata, Error>, listed: &ObjectMeta) -> Outcome {
    let error = match answer {
        Ok(found) if found.metadata.resource_version == listed.resource_version => {
            return Outcome::Current;
        }
        Ok(_) => return Outcome::Rewritten,
        Err(error) => error,
    };
    let reason = text(&error);
    match &error {
        Error::Api(status) if status.code == 404 => Outcome::Gone,
        // others write it all the time, and every write stores it in this version
        Error::Api(status) if status.code == 409 => Outcome::Current,
        // and not by an admission webhook
        Error::Api(status) if status.code == 403 && reason.contains("cannot patch resource") => {
            Outcome::Forbidden(reason)
        }
        Error::Api(status) if status.code == 401 => Outcome::Forbidden(reason),
        error => Outcome::Failed {
            reason,
            is_final: !may_pass(error),
        },
    }
}

#[cfg(test)]
mod tests {
    use kube::core::Status;

    use super::*;

    fn metadata(version: &str) -> ObjectMeta {
        ObjectMeta {
            resource_version: Some(version.to_owned()),
            ..ObjectMeta::default()
        }
    }

    fn answered(version: &str) -> Outcome {
        let answer = json!({"metadata": {"resourceVersion": version}});
        let answer = serde_json::from_value(answer).unwrap();
        outcome(Ok(answer), &metadata("1"))
    }

    fn rejected(code: u16, message: &str) -> Outcome {
        let status = Status {
            code,
            message: message.to_owned(),
            ..Status::default()
        };
        outcome(Err(Error::Api(Box::new(status))), &metadata("1"))
    }

    #[test]
    fn a_new_resource_version_says_that_an_object_was_stored() {
        assert_eq!(answered("2"), Outcome::Rewritten);
        assert_eq!(answered("1"), Outcome::Current);
    }

    #[test]
    fn what_others_do_at_the_same_time_is_no_failure() {
        assert_eq!(rejected(404, "not found"), Outcome::Gone);
        assert_eq!(rejected(409, "modified"), Outcome::Current);
    }

    #[test]
    fn a_missing_permission_is_not_the_fault_of_the_object() {
        let rbac = r#"mappings.getambassador.io "x" is forbidden: User "u" cannot patch resource "mappings""#;
        assert_eq!(rejected(403, rbac), Outcome::Forbidden(rbac.to_owned()));
        let denied = r#"admission webhook "policy" denied the request: no"#;
        for (code, message, is_final) in [
            (403, denied, true),
            (422, "invalid", true),
            (500, "webhook failed", false),
        ] {
            let reason = message.to_owned();
            assert_eq!(
                rejected(code, message),
                Outcome::Failed { reason, is_final }
            );
        }
    }
}
