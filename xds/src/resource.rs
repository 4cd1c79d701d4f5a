//! A versioned xDS resource: a name, an encoded message, and a version, which is a hash of the message. So equal content has
//! the same version on every replica, and is not sent again.
//!
//! prost encodes maps in random order. A message in a [`Resource`] must therefore have at most one entry in each map, or
//! have its maps encoded by hand in sorted order; the tests of `render` encode everything twice and compare.

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
    /// Type.
    pub kind: ResourceType,
    /// Resource name, unique within its type.
    pub name: Arc<str>,
    /// Hash of `body`.
    pub version: Version,
    /// The encoded message, without the `Any` around it.
    pub body: Bytes,
    /// For an EDS cluster: name of the endpoints that must be sent after it on the same stream.
    pub endpoints: Option<Arc<str>>,
}

impl Resource {
    /// A resource with this encoded message.
    #[must_use]
    pub fn new(kind: ResourceType, name: impl Into<Arc<str>>, body: Bytes) -> Self {
        let version = Version(xxh3_128(&body));
        Self {
            kind,
            name: name.into(),
            version,
            body,
            endpoints: None,
        }
    }

    /// The same resource with [`Resource::endpoints`].
    #[must_use]
    pub fn with_endpoints(self, endpoints: Arc<str>) -> Self {
        Self {
            endpoints: Some(endpoints),
            ..self
        }
    }
}

/// Prints the size of the body only, since it can contain a private key.
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
