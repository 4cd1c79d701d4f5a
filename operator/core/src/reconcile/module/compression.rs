//! Key `gzip`.

use nuncio_ir::{Compression, CompressionStrategy, FilterSettings};

use super::config::{Config, number};

/// Names of zlib's levels: those of Envoy, and the shorter ones of Emissary's documentation.
const LEVELS: [(&str, u32); 7] = [
    ("DEFAULT_COMPRESSION", 0),
    ("DEFAULT", 0),
    ("BEST_SPEED", 1),
    ("SPEED", 1),
    ("BEST_COMPRESSION", 9),
    ("BEST", 9),
    ("COMPRESSION_LEVEL_9", 9),
];

const STRATEGIES: [(&str, CompressionStrategy); 7] = [
    ("DEFAULT_STRATEGY", CompressionStrategy::Default),
    ("DEFAULT", CompressionStrategy::Default),
    ("FILTERED", CompressionStrategy::Filtered),
    ("HUFFMAN_ONLY", CompressionStrategy::HuffmanOnly),
    ("HUFFMAN", CompressionStrategy::HuffmanOnly),
    ("RLE", CompressionStrategy::Rle),
    ("FIXED", CompressionStrategy::Fixed),
];

/// Compression of responses; `None`: off.
pub(super) fn compression(config: &mut Config<'_>) -> Option<FilterSettings> {
    let (is_on, compression) = config.section("gzip", |gzip| {
        let is_on = gzip.boolean("enabled", true);
        let compression = Compression {
            memory_level: gzip.number("memory_level", 1..=9),
            level: level(gzip),
            strategy: gzip
                .choice("compression_strategy", &STRATEGIES)
                .unwrap_or_default(),
            window_bits: gzip.number("window_bits", 9..=15),
            min_content_length: gzip.number("min_content_length", 0..=u32::MAX),
            content_types: content_types(gzip),
            disable_on_etag: gzip.boolean("disable_on_etag_header", false),
            remove_accept_encoding: gzip.boolean("remove_accept_encoding_header", false),
        };
        (is_on, compression)
    })?;
    is_on.then_some(FilterSettings::Compression(compression))
}

fn level(gzip: &mut Config<'_>) -> Option<u32> {
    const KEY: &str = "compression_level";
    let value = gzip.value(KEY)?;
    let named = value.as_str().and_then(|text| {
        let numbered = text.strip_prefix("COMPRESSION_LEVEL_");
        let numbered = numbered.and_then(|digits| digits.parse().ok());
        let named = LEVELS.iter().find(|(name, _)| *name == text);
        numbered.or(named.map(|(_, level)| *level))
    });
    let level = named.or_else(|| number(value)).filter(|level| *level <= 9);
    if level.is_none() {
        let fact = "must be DEFAULT_COMPRESSION, BEST_SPEED, BEST_COMPRESSION, or COMPRESSION_LEVEL_1 to COMPRESSION_LEVEL_9";
        gzip.replace(KEY, fact, "DEFAULT_COMPRESSION");
    }
    level
}

/// Media types without blanks around them and without duplicates.
fn content_types(gzip: &mut Config<'_>) -> Vec<String> {
    let mut found: Vec<String> = Vec::new();
    for (index, text) in gzip
        .texts("content_type")
        .unwrap_or_default()
        .iter()
        .enumerate()
    {
        let text = text.trim();
        if text.is_empty() || text.chars().any(char::is_control) {
            let fact = "must not be empty or contain control characters";
            gzip.ignore(&format!("content_type[{index}]"), fact);
        } else {
            found.push(text.to_owned());
        }
    }
    found
}
