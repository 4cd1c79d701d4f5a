//! Settings of response compression.

/// Compression of responses with gzip (`envoy.extensions.filters.http.compressor.v3.Compressor`); `None`: Envoy's
/// default.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Compression {
    /// zlib's memory level, 1 to 9.
    pub memory_level: Option<u32>,
    /// zlib's compression level, 1 to 9; 0: zlib's default.
    pub level: Option<u32>,
    /// zlib's strategy.
    pub strategy: CompressionStrategy,
    /// zlib's window, 9 to 15 bits.
    pub window_bits: Option<u32>,
    /// Smallest response that is compressed, in bytes.
    pub min_content_length: Option<u32>,
    /// Media types that are compressed; empty: Envoy's default.
    pub content_types: Vec<String>,
    /// Whether responses with an `etag` are not compressed.
    pub disable_on_etag: bool,
    /// Whether upstreams do not see `accept-encoding`.
    pub remove_accept_encoding: bool,
}

/// zlib's strategy.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CompressionStrategy {
    /// The usual one.
    #[default]
    Default,
    /// For filtered data.
    Filtered,
    /// Huffman coding only.
    HuffmanOnly,
    /// Run lengths.
    Rle,
    /// Fixed Huffman codes.
    Fixed,
}
