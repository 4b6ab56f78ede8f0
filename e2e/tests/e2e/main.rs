//! End-to-end tests on a real Kubernetes with a real Kafka. `make e2e` runs `sample`, `make e2e-full` all.

mod full;
mod high_availability;
mod sample;
mod sql;
mod state;
mod steps;
