//! File descriptors: who may use how many of them. Whoever runs out of them stops working, so that every server has a share.

use rustix::process::{Resource, getrlimit};

/// A share of the file descriptors of a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Share {
    /// Connections of the xDS server, or of clients of an Envoy, each of which can need one to an upstream.
    Half,
    /// Connections of a small server: streams of Envoys, files and requests to the apiserver need the others.
    Eighth,
}

/// `most`, or this share of the file descriptors that this process has if these are few.
pub(crate) fn at_most(most: usize, share: Share) -> usize {
    limited(most, share, getrlimit(Resource::Nofile).current)
}

/// The same for a child process, which can have as many as are allowed.
pub(crate) fn at_most_in_child(most: usize, share: Share) -> usize {
    limited(most, share, getrlimit(Resource::Nofile).maximum)
}

/// At least one; without a limit, `most`.
fn limited(most: usize, share: Share, descriptors: Option<u64>) -> usize {
    let divisor = match share {
        Share::Half => 2,
        Share::Eighth => 8,
    };
    let part = descriptors.and_then(|limit| usize::try_from(limit / divisor).ok());
    part.map_or(most, |part| part.clamp(1, most.max(1)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_is_limited_on_both_sides() {
        for (most, share, descriptors, expected) in [
            (50_000, Share::Half, Some(1024), 512),
            (50_000, Share::Half, Some(1 << 20), 50_000),
            (50_000, Share::Half, Some(u64::MAX), 50_000),
            (50_000, Share::Half, None, 50_000),
            (50_000, Share::Half, Some(1), 1),
            (64, Share::Eighth, Some(200), 25),
            (64, Share::Eighth, Some(1024), 64),
        ] {
            let found = limited(most, share, descriptors);
            assert_eq!(found, expected, "{share:?} of {descriptors:?}");
        }
    }
}
