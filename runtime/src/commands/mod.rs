//! One module a verb.

pub(crate) mod client;
pub(crate) mod info;
pub(crate) mod jobmanager;
pub(crate) mod run;
pub(crate) mod taskmanager;
