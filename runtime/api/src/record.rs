//! Typed rows over Arrow columns: see [`thalweg_types::record`]. Here because the derive's output and users name it so.

pub use thalweg_types::record::*;

/// A record as user functions see it: `&str` for a `String`, `WordRef<'_>` for a struct `Word`, a tuple of these for a tuple.
pub type RecordRef<'a, T> = <T as Value>::Ref<'a>;

#[cfg(test)]
mod tests;
