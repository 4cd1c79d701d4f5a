//! The test tools of Emissary-ingress, `kat-client` and `kat-server`, with the same flags, variables, headers and JSON: a
//! client with queries and results in JSON, and backends that answer with what they received.
//!
//! Where ours differ from the originals:
//! - TLS is rustls: no TLS 1.0 and 1.1, no cipher suite without forward secrecy, no curve P-521. A lower bound below TLS
//!   1.2 has no effect; a query that allows nothing else gets an error.
//! - A self-signed certificate that may sign others is not trusted as the certificate of a server.
//! - The client does not ask for compression by itself, and its user agent is `kat-client`.
//! - It offers HTTP/2 to every `https` server; the others get HTTP/1.1.
//! - `Date` is in UTC.
//! - The v2 gRPC services are the v3 ones under the v2 path: what is used of the messages is encoded alike in both.
//! - The `http` backend answers websockets: each text message comes back as it is.

pub mod certificate;
pub mod client;
pub mod echo;
mod frame;
mod header;
pub mod server;
pub mod span;
pub mod wait;
