//! The generated files are those in the project, small enough, and their rules say what they should.

#![allow(clippy::unwrap_used, clippy::needless_pass_by_value)] // helpers of tests fail as tests do

mod generated;
mod rules;
