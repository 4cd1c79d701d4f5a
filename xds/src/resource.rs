//! One versioned xDS resource: the unit of what ADS streams. A name, the encoded message, and a version that is
//! a hash of these bytes, so that equal content has an equal version on every replica and is never sent twice.
//!
//! Envoy's messages contain maps, and prost encodes a map in random order. Whoever encodes a message that goes
//! into a [`Resource`] must therefore make sure that each of its maps has one entry at most, or write the map in
//! sorted order by hand; `render`'s tests encode everything twice and compare.

use std::{fmt, sync::Arc};

use bytes::Bytes;
use nuncio_ir::ResourceType;
use xxhash_rust::xxh3::xxh3_128;

/// Hash of a resource's encoded bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Version(pub u128);

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

/// A named, versioned, encoded resource. Cheap to clone: name and body are shared.
#[derive(Clone, PartialEq, Eq)]
pub struct Resource {
    /// What it is.
    pub kind: ResourceType,
    /// Its xDS resource name, unique within its type.
    pub name: Arc<str>,
    /// Hash of `body`.
    pub version: Version,
    /// The encoded message, without the `Any` around it.
    pub body: Bytes,
    /// For a cluster that asks EDS: the name of the endpoints that have to follow it on the same stream.
    pub needs: Option<Arc<str>>,
}

impl Resource {
    /// A resource with the version that belongs to `body`.
    #[must_use]
    pub fn new(kind: ResourceType, name: impl Into<Arc<str>>, body: Bytes) -> Self {
        let version = Version(xxh3_128(&body));
        Self {
            kind,
            name: name.into(),
            version,
            body,
            needs: None,
        }
    }

    /// The same resource, to be followed by these endpoints.
    #[must_use]
    pub fn with_needs(self, endpoints: Arc<str>) -> Self {
        Self {
            needs: Some(endpoints),
            ..self
        }
    }
}

/// The body may hold a private key: only its length is shown.
impl fmt::Debug for Resource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Resource")
            .field("kind", &self.kind)
            .field("name", &self.name)
            .field("version", &self.version)
            .field("bytes", &self.body.len())
            .finish()
    }
}
