//! Protobuf encoding by hand where generated types do not help: maps, which prost encodes in random order, and messages
//! that consist of encoded parts.

use std::collections::BTreeMap;

use bytes::{BufMut, Bytes, BytesMut};
use prost::{
    Message,
    encoding::{WireType, encode_key, encode_varint, encoded_len_varint, key_len},
};

/// A message under construction.
#[derive(Default)]
pub(super) struct Writer(BytesMut);

impl Writer {
    pub(super) fn with_capacity(bytes: usize) -> Self {
        Self(BytesMut::with_capacity(bytes))
    }

    /// Writes the fields of a message. The caller must not write any of them again.
    pub(super) fn message(mut self, message: &impl Message) -> Self {
        self.0.reserve(message.encoded_len());
        // fails only if the buffer cannot grow
        let _ = message.encode(&mut self.0);
        self
    }

    /// Makes room for more bytes.
    pub(super) fn reserve(mut self, bytes: usize) -> Self {
        self.0.reserve(bytes);
        self
    }

    /// Writes encoded fields.
    pub(super) fn encoded(mut self, fields: &[u8]) -> Self {
        self.0.extend_from_slice(fields);
        self
    }

    /// Writes a string, bytes, or an encoded message.
    pub(super) fn field(mut self, number: u32, value: &[u8]) -> Self {
        self.push(number, value);
        self
    }

    /// Begins an embedded message of this length, whose fields are written next.
    pub(super) fn begin(mut self, number: u32, length: usize) -> Self {
        self.head(number, length);
        self
    }

    /// Writes a repeated field.
    pub(super) fn fields<'a>(
        mut self,
        number: u32,
        values: impl IntoIterator<Item = &'a Bytes>,
    ) -> Self {
        for value in values {
            self.push(number, value);
        }
        self
    }

    /// Writes a map from strings to strings or encoded messages, in its order.
    pub(super) fn map<K: AsRef<[u8]>, V: AsRef<[u8]>>(
        mut self,
        number: u32,
        map: &BTreeMap<K, V>,
    ) -> Self {
        for (key, value) in map {
            let entry = Self::default()
                .field(1, key.as_ref())
                .field(2, value.as_ref());
            self.push(number, &entry.finish());
        }
        self
    }

    pub(super) fn finish(self) -> Bytes {
        self.0.freeze()
    }

    fn push(&mut self, number: u32, value: &[u8]) {
        self.head(number, value.len());
        self.0.put_slice(value);
    }

    fn head(&mut self, number: u32, length: usize) {
        encode_key(number, WireType::LengthDelimited, &mut self.0);
        encode_varint(length as u64, &mut self.0);
    }
}

/// Encoded size of a field with a value of this size.
pub(super) fn field_len(number: u32, bytes: usize) -> usize {
    key_len(number) + encoded_len_varint(bytes as u64) + bytes
}

/// Encoded size of a repeated field.
pub(super) fn fields_len<'a>(number: u32, values: impl IntoIterator<Item = &'a Bytes>) -> usize {
    let values = values.into_iter();
    values.map(|value| field_len(number, value.len())).sum()
}

/// An encoded `google.protobuf.Any`.
pub(super) fn any(type_url: &str, value: &[u8]) -> Bytes {
    Writer::default()
        .field(1, type_url.as_bytes())
        .field(2, value)
        .finish()
}
