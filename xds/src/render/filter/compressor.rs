//! `envoy.extensions.filters.http.compressor.v3.Compressor`: compression of responses.

use crate::{
    ir::{Compression, CompressionStrategy},
    pb::{
        envoy::{
            config::core::v3::TypedExtensionConfig,
            extensions::{
                compression::gzip::compressor::v3::{Gzip, gzip},
                filters::http::compressor::v3::{
                    Compressor,
                    compressor::{CommonDirectionConfig, ResponseDirectionConfig},
                },
            },
            r#type::matcher::v3::{StringMatcher, string_matcher::MatchPattern},
        },
        google::protobuf::Any,
    },
    render::{any, uint32},
};

/// The filter with gzip.
pub(super) fn config(compression: &Compression) -> Any {
    let gzip = Gzip {
        memory_level: compression.memory_level.map(uint32),
        // Envoy's values of the enumeration are zlib's levels
        compression_level: compression
            .level
            .and_then(|level| i32::try_from(level).ok())
            .unwrap_or(0),
        compression_strategy: strategy(compression.strategy).into(),
        window_bits: compression.window_bits.map(uint32),
        ..Gzip::default()
    };
    any(&Compressor {
        compressor_library: Some(TypedExtensionConfig {
            name: "gzip".to_owned(),
            typed_config: Some(any(&gzip)),
        }),
        response_direction_config: Some(ResponseDirectionConfig {
            common_config: Some(CommonDirectionConfig {
                min_content_length: compression.min_content_length.map(uint32),
                content_type_matcher: compression
                    .content_types
                    .iter()
                    .map(|text| media_type(text))
                    .collect(),
                ..CommonDirectionConfig::default()
            }),
            disable_on_etag_header: compression.disable_on_etag,
            remove_accept_encoding_header: compression.remove_accept_encoding,
            ..ResponseDirectionConfig::default()
        }),
        ..Compressor::default()
    })
}

fn media_type(text: &str) -> StringMatcher {
    StringMatcher {
        ignore_case: true,
        match_pattern: Some(MatchPattern::Exact(text.to_owned())),
    }
}

const fn strategy(strategy: CompressionStrategy) -> gzip::CompressionStrategy {
    match strategy {
        CompressionStrategy::Default => gzip::CompressionStrategy::DefaultStrategy,
        CompressionStrategy::Filtered => gzip::CompressionStrategy::Filtered,
        CompressionStrategy::HuffmanOnly => gzip::CompressionStrategy::HuffmanOnly,
        CompressionStrategy::Rle => gzip::CompressionStrategy::Rle,
        CompressionStrategy::Fixed => gzip::CompressionStrategy::Fixed,
    }
}
