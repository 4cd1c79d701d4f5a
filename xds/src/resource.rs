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

impl Version {
    /// The version with this text, as it is printed.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let is_printed = text.len() == 32 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        u128::from_str_radix(text, 16)
            .ok()
            .filter(|_| is_printed)
            .map(Self)
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

/// A resource that another one refers to: type and name.
pub type Ref = (ResourceType, Arc<str>);

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
    /// Resources that this one refers to, possibly with duplicates. Those that Envoy waits for are sent after a cluster, and
    /// none is removed while Envoy uses this one.
    pub refs: Arc<[Ref]>,
    /// For a cluster: whether Envoy needs time until it can use it, for a DNS lookup, a health check or a Secret.
    pub warms: bool,
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
            refs: Arc::default(),
            warms: false,
        }
    }

    /// The same resource with [`Resource::refs`].
    #[must_use]
    pub fn with_refs(self, refs: impl IntoIterator<Item = Ref>) -> Self {
        Self {
            refs: refs.into_iter().collect(),
            ..self
        }
    }

    /// The same resource with [`Resource::warms`].
    #[must_use]
    pub fn with_warming(self, warms: bool) -> Self {
        Self { warms, ..self }
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
