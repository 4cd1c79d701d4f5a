//! The command line of `nuncio migrate-storage`.

use std::num::NonZeroU8;

use clap::Args;
use nuncio_crds::GROUP;

/// The end of the help of `nuncio migrate-storage`.
pub const HELP: &str = "A CustomResourceDefinition stores objects in one version, but objects that were written before stay in the version that
was stored then (status.storedVersions). A version can be removed from the definition only after all objects were stored
again. Run this after the storage version has changed, such as after the component stored-v2 was removed, and before
served-v2 and the conversion webhook are removed. Wait a minute after the change: each apiserver learns of it separately.

Every object is stored again with its content unchanged: specs, generations and status stay. The conversion webhook must
run. Then status.storedVersions is set to the storage version. If an object cannot be stored, the others are, and
status.storedVersions stays; to repair one that cannot be converted, make its version the storage version again. The
place is remembered in the condition StorageMigrated of the definition: run the command again after an interruption, and
it goes on from there.

Permissions (kustomize component migrate-storage, a Job and its ServiceAccount):
  customresourcedefinitions         get
  customresourcedefinitions/status  patch
  kinds of getambassador.io         list, patch

Exit status:
  0  objects of all chosen kinds are stored in the storage version
  1  an object or a kind could not be migrated, or the run was interrupted

Examples:
  nuncio migrate-storage --dry-run
  nuncio migrate-storage
  nuncio migrate-storage --kind Mapping --kind Host -o json | jq '.kinds[].failed'
  kubectl get crd mappings.getambassador.io -o jsonpath='{.status.storedVersions}'";

/// The arguments of `nuncio migrate-storage`.
#[derive(Clone, Debug, Args)]
pub struct MigrateStorageArguments {
    /// Kind to migrate, such as Mapping; repeatable [default: all with several versions]
    #[arg(long = "kind", value_name = "KIND", value_parser = kind)]
    pub kinds: Vec<String>,
    /// Convert and validate every object, but store nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Objects that are written at a time
    #[arg(long, value_name = "NUMBER", default_value = "8")]
    pub concurrency: NonZeroU8,
    /// Output format
    #[arg(short, long, value_enum, default_value_t = Output::Text)]
    pub output: Output,
    /// Context of the kubeconfig [default: its current context]
    #[arg(long)]
    pub context: Option<String>,
}

/// Output format.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Output {
    /// Lines for people
    Text,
    /// JSON, for programs
    Json,
}

fn kind(text: &str) -> Result<String, String> {
    match super::kinds().find(|info| super::is(info, text)) {
        Some(info) => Ok(info.name.to_owned()),
        None => Err(format!("{GROUP} has no such kind with several versions")),
    }
}

#[cfg(test)]
mod tests {
    use super::kind;

    #[test]
    fn kinds_and_resources_are_names() {
        assert_eq!(kind("Mapping").as_deref(), Ok("Mapping"));
        assert_eq!(kind("tcpmappings").as_deref(), Ok("TCPMapping"));
        for other in ["Service", "Listener", ""] {
            assert!(kind(other).is_err(), "{other}");
        }
    }
}
