//! The cluster side.
