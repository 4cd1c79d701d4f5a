//! The conversion webhook: the real apiserver calls the real `nuncio apiext` through its Service.

#[path = "apiext/attack.rs"]
mod attack;
#[path = "apiext/authority.rs"]
mod authority;
#[path = "apiext/definitions.rs"]
mod definitions;
#[path = "apiext/install.rs"]
mod install;
#[path = "apiext/load.rs"]
mod load;
#[path = "apiext/many.rs"]
mod many;
#[path = "apiext/migration.rs"]
mod migration;
#[path = "apiext/outage.rs"]
mod outage;
#[path = "apiext/reading.rs"]
mod reading;
#[path = "apiext/rig.rs"]
mod rig;
#[path = "apiext/versions.rs"]
mod versions;

pub(crate) use attack::hostile_clients_do_not_keep_the_apiserver_from_converting;
pub(crate) use authority::{
    an_authority_of_another_program_is_used_and_never_written,
    the_authority_rotates_without_a_failed_call,
};
pub(crate) use definitions::{
    only_conversion_is_patched_and_what_others_change_is_undone,
    without_crd_management_another_program_sets_the_bundle,
};
pub(crate) use install::an_installation_converts_and_rolls_without_a_failed_call;
pub(crate) use many::ten_thousand_old_objects_are_listed;
pub(crate) use migration::{
    a_migration_goes_on_where_it_was_interrupted, an_object_that_cannot_be_stored_is_named,
    objects_are_stored_again_and_old_versions_removed,
    without_permission_or_conversion_nothing_is_stored,
};
pub(crate) use outage::{
    replicas_are_replaced_without_a_failed_call, the_webhook_goes_and_comes_back,
};
pub(crate) use reading::{
    a_cluster_with_v2_alone_is_served, objects_of_the_read_version_need_no_webhook,
    stored_objects_are_served_while_the_webhook_is_away,
};
pub(crate) use versions::what_is_written_in_v2_is_read_in_v3alpha1_and_back;
