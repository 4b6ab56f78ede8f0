//! `thalweg-sim [seeds] [first]`: the long run. Prints what was done, how fast, and each seed that failed. With `THALWEG_SIM_SEED`
//! that seed's whole story.

#![allow(clippy::print_stdout, reason = "what it prints is what it is for")]

use std::time::Instant;

use thalweg_sim::{Coverage, Outcome, SEED_VARIABLE, Variant, replay, run};

/// Seeds of a run that names no number.
const SEEDS: u64 = 1_000;
/// Of them the whole story is told.
const REPORTED: usize = 3;

fn number(place: usize, default: u64) -> u64 {
    let argument = std::env::args().nth(place);
    argument.and_then(|text| text.parse().ok()).unwrap_or(default)
}

fn main() -> std::process::ExitCode {
    if let Some(seed) = std::env::var(SEED_VARIABLE)
        .ok()
        .and_then(|seed| seed.parse().ok())
    {
        println!("{}", replay(seed, Variant::Sound).report());
        return std::process::ExitCode::SUCCESS;
    }
    let (seeds, first) = (number(1, SEEDS), number(2, 0));
    let begun = Instant::now();
    let mut coverage = Coverage::default();
    let (mut events, mut simulated_ms) = (0, 0);
    let mut failed: Vec<Outcome> = Vec::new();
    for seed in first..first + seeds {
        let outcome = run(seed, Variant::Sound);
        coverage.add(&outcome.coverage);
        events += outcome.events;
        simulated_ms += outcome.simulated_ms;
        if let Some(violation) = outcome.violations.first() {
            println!("seed {seed}: {violation}");
            if failed.len() < REPORTED {
                failed.push(outcome);
            }
        }
    }
    let seconds = begun.elapsed().as_secs_f64().max(0.001);
    for (step, count) in coverage.iter() {
        println!("{count:>12}  {}", step.name());
    }
    println!(
        "{seeds} seeds from {first} in {seconds:.0} s: {:.0} seeds a minute, {events} events, {:.1} simulated hours; {} failed",
        seeds as f64 / seconds * 60.0,
        simulated_ms as f64 / 3_600_000.0,
        failed.len()
    );
    for outcome in &failed {
        println!("\n{}", outcome.report());
    }
    match failed.is_empty() {
        true => std::process::ExitCode::SUCCESS,
        false => std::process::ExitCode::FAILURE,
    }
}
