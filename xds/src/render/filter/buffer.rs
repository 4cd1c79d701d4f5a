//! `envoy.extensions.filters.http.buffer.v3.Buffer`: reads the whole request first.

use crate::{
    pb::{envoy::extensions::filters::http::buffer::v3::Buffer, google::protobuf::Any},
    render::{any, uint32},
};

/// The filter, for requests up to this size.
pub(super) fn config(max_request_bytes: u32) -> Any {
    any(&Buffer {
        max_request_bytes: Some(uint32(max_request_bytes)),
    })
}
