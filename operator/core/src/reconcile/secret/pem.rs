//! PEM as BoringSSL reads it in Envoy: text around blocks, blank lines, and blocks with other labels are skipped.
//! What is skipped is not sent to Envoy: a key in `tls.crt` would be shown with the certificates in its configuration.

/// Labels of certificates.
pub(super) const CERTIFICATES: [&str; 3] =
    ["CERTIFICATE", "X509 CERTIFICATE", "TRUSTED CERTIFICATE"];

/// Label of revocation lists.
pub(super) const REVOCATION_LIST: &str = "X509 CRL";

/// Labels of private keys.
pub(super) const KEYS: [&str; 5] = [
    "PRIVATE KEY",
    "RSA PRIVATE KEY",
    "EC PRIVATE KEY",
    "DSA PRIVATE KEY",
    ENCRYPTED_KEY,
];

/// Label of encrypted private keys; keys with other labels are encrypted if they have headers.
const ENCRYPTED_KEY: &str = "ENCRYPTED PRIVATE KEY";

/// A block.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Block<'a> {
    pub(super) label: &'a str,
    /// The block alone, without blank lines.
    pub(super) text: String,
}

impl Block<'_> {
    pub(super) fn is_certificate(&self) -> bool {
        CERTIFICATES.contains(&self.label)
    }

    pub(super) fn is_revocation_list(&self) -> bool {
        self.label == REVOCATION_LIST
    }

    pub(super) fn is_key(&self) -> bool {
        KEYS.contains(&self.label)
    }

    pub(super) fn is_encrypted(&self) -> bool {
        self.label == ENCRYPTED_KEY || self.has_headers()
    }

    /// Whether there is more than base64, such as `Proc-Type: 4,ENCRYPTED`.
    pub(super) fn has_headers(&self) -> bool {
        self.text.contains(':')
    }
}

/// The blocks of a text; `None` if one does not end as it must.
pub(super) fn blocks(text: &str) -> Option<Vec<Block<'_>>> {
    let mut blocks = Vec::new();
    let mut lines = text.lines().map(str::trim_end);
    while let Some(line) = lines.next() {
        let Some(label) = delimited(line, "-----BEGIN ") else {
            continue;
        };
        let mut text = format!("{line}\n");
        loop {
            let line = lines.next()?;
            if line.is_empty() {
                continue;
            }
            text.push_str(line);
            text.push('\n');
            match delimited(line, "-----END ") {
                Some(end) if end == label => break,
                None if !line.contains("-----") => {}
                _ => return None,
            }
        }
        blocks.push(Block { label, text });
    }
    Some(blocks)
}

fn delimited<'a>(line: &'a str, start: &str) -> Option<&'a str> {
    line.strip_prefix(start)?.strip_suffix("-----")
}
