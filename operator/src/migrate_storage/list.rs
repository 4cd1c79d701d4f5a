//! The pages of a list of objects: their metadata only.

use kube::{
    Api, Client, Error,
    api::{ListParams, PartialObjectMeta},
    core::{ApiResource, DynamicObject, GroupVersionKind, ObjectList},
};
use nuncio_crds::KindInfo;
use tokio_util::sync::CancellationToken;
use tracing::warn;

use super::{
    definition::Store,
    retry::{retried, text},
};

/// Objects in a page.
const PAGE_SIZE: u32 = 500;

/// Metadata of an object.
pub(super) type Metadata = PartialObjectMeta<DynamicObject>;

/// Where objects of a kind are listed.
pub(super) struct Lister {
    client: Client,
    /// One for each version that is served, the storage version first.
    resources: Vec<ApiResource>,
    /// The one in use.
    index: usize,
    token: Option<String>,
}

/// A kind in a version.
pub(super) fn resource(info: &KindInfo, version: &str) -> ApiResource {
    let kind = GroupVersionKind::gvk(info.group, version, info.name);
    ApiResource::from_gvk_with_plural(&kind, info.plural)
}

/// A page of objects.
pub(super) struct Page {
    pub(super) items: Vec<Metadata>,
    /// Objects after it, as the apiserver estimates them.
    pub(super) remaining: usize,
    pub(super) is_last: bool,
}

impl Lister {
    /// From the first object on.
    pub(super) fn new(client: Client, info: &KindInfo, store: &Store) -> Self {
        let versions = [&store.version].into_iter().chain(&store.others);
        Self {
            client,
            resources: versions.map(|version| resource(info, version)).collect(),
            index: 0,
            token: None,
        }
    }

    /// The next page; the first one again if the list has expired.
    pub(super) async fn next(&mut self, stop: &CancellationToken) -> Result<Page, Error> {
        loop {
            let error = match self.request(stop).await {
                Ok(list) => return Ok(self.page(list)),
                Err(error) => error,
            };
            let Error::Api(status) = &error else {
                return Err(error);
            };
            match status.code {
                410 if self.token.is_some() => self.token = None,
                // one object that cannot be converted fails the list; in the version in which it is stored, it is listed
                500 if self.index + 1 < self.resources.len() && !stop.is_cancelled() => {
                    let known = &self.resources[self.index].api_version;
                    self.index += 1;
                    let next = &self.resources[self.index].api_version;
                    let error = text(&error);
                    warn!(%error, "cannot list objects as {known}; listing them as {next}");
                }
                _ => return Err(error),
            }
        }
    }

    async fn request(&self, stop: &CancellationToken) -> Result<ObjectList<Metadata>, Error> {
        let resource = &self.resources[self.index];
        let api: Api<DynamicObject> = Api::all_with(self.client.clone(), resource);
        let parameters = ListParams {
            limit: Some(PAGE_SIZE),
            continue_token: self.token.clone(),
            ..ListParams::default()
        };
        retried(stop, async || api.list_metadata(&parameters).await).await
    }

    fn page(&mut self, list: ObjectList<Metadata>) -> Page {
        let token = list.metadata.continue_;
        self.token = token.filter(|token| !token.is_empty());
        let remaining = list.metadata.remaining_item_count.unwrap_or_default();
        Page {
            items: list.items,
            remaining: usize::try_from(remaining).unwrap_or_default(),
            is_last: self.token.is_none(),
        }
    }
}
