//! Text files that others write. Only regular files are read, and only up to a size: others may have no end, or block their
//! reader.

use std::{
    fs,
    io::{self, Read as _},
    os::unix::fs::OpenOptionsExt as _,
    path::Path,
};

use rustix::fs::OFlags;

/// Why there is no text of a file.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Unreadable {
    /// It is not a text file, or too large.
    #[error("{0}")]
    Content(String),
    /// The file system reported an error.
    #[error(transparent)]
    Failed(io::Error),
}

/// The text of a file with at most this many MiB.
pub(crate) fn read(path: &Path, max_mib: u64) -> Result<String, Unreadable> {
    let (max, mut bytes) = (max_mib << 20, Vec::new());
    let mut read = || {
        // opening a FIFO would wait for its writer
        let file = fs::File::options()
            .read(true)
            .custom_flags(OFlags::NONBLOCK.bits().cast_signed())
            .open(path)?;
        let is_regular = file.metadata()?.is_file();
        if is_regular {
            file.take(max + 1).read_to_end(&mut bytes)?;
        }
        Ok(is_regular)
    };
    if !read().map_err(Unreadable::Failed)? {
        return Err(Unreadable::Content(
            "not a regular file; ignored".to_owned(),
        ));
    }
    if bytes.len() as u64 > max {
        let message = format!("file is larger than {max_mib} MiB; ignored");
        return Err(Unreadable::Content(message));
    }
    String::from_utf8(bytes)
        .map_err(|error| Unreadable::Content(format!("file is not UTF-8: {error}")))
}
