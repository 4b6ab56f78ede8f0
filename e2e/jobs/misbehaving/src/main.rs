//! Jobs that go wrong, one for each kind of bad input that the engine must explain: `misbehaving MODE`.
//!
//! Two groups: `main` itself misbehaves (extraction has to say so), or the job runs and its user function does (the task, the
//! worker or its budget has to).

use std::io::{Write, stderr, stdout};
use std::process::exit;
use std::thread;

use thalweg_api::prelude::*;

const MODES: &str = "never-executes, panics, exits-early, returns-error, prints, runs-forever, two-environments, \
                     bad-graph, main-allocates, map-panics, map-fails, worker-exits, allocates, well-behaved";

#[thalweg_api::main]
fn main() -> Result<(), String> {
    let env = StreamExecutionEnvironment::new();
    let mode = env.args().into_iter().next().unwrap_or_default();
    match mode.as_str() {
        // main
        "never-executes" => {
            numbers(&env).blackhole();
            Ok(())
        }
        "panics" => panic!("main went wrong on purpose"),
        "exits-early" => exit(3),
        "returns-error" => Err("main returned this on purpose".to_owned()),
        "prints" => prints(env),
        "runs-forever" => loop {
            thread::park();
        },
        "two-environments" => two_environments(env),
        "bad-graph" => {
            numbers(&env)
                .key_by_field::<i64>("value")
                .sum("no-such-column")
                .blackhole();
            env.execute(&mode)
        }
        "main-allocates" => {
            allocate_without_end(&mut Vec::new());
            Ok(())
        }
        // user functions
        "map-panics" => run(env, &mode, |n| {
            if n == 1000 {
                panic!("map went wrong on purpose")
            } else {
                n
            }
        }),
        "map-fails" => {
            let map = |n| {
                if n == 1000 {
                    Err("map failed on purpose")
                } else {
                    Ok(n)
                }
            };
            numbers(&env).try_map::<i64, _, _>(map).uid("map").blackhole();
            env.execute(&mode)
        }
        "worker-exits" => run(env, &mode, |n| if n == 1000 { exit(7) } else { n }),
        "allocates" => allocates(env),
        "well-behaved" => run(env, &mode, |n| n),
        other => Err(format!("unknown mode {other:?}; there are: {MODES}")),
    }
}

/// A thousand numbers a second, without end.
fn numbers(env: &StreamExecutionEnvironment) -> DataStream<i64> {
    let options = DatagenOptions {
        rows_per_second: Some(1000.0),
        ..DatagenOptions::default()
    };
    env.datagen(options, |index| index as i64).uid("numbers")
}

fn run(
    env: StreamExecutionEnvironment,
    name: &str,
    map: impl FnMut(i64) -> i64 + Clone + Send + 'static,
) -> ! {
    numbers(&env).map(map).uid("map").blackhole().uid("sink");
    env.execute(name)
}

/// What a program prints is its own: it mixes with nothing.
fn prints(env: StreamExecutionEnvironment) -> ! {
    for line in 0..1000 {
        // A closed output is no reason to stop.
        let _ = writeln!(stdout(), "line {line} on standard output\0\u{7f}");
        let _ = writeln!(stderr(), "line {line} on standard error");
    }
    run(env, "prints", |n| n)
}

fn two_environments(first: StreamExecutionEnvironment) -> ! {
    let second = StreamExecutionEnvironment::new();
    numbers(&second).blackhole();
    run(first, "two-environments", |n| n)
}

/// MiB after MiB, touched, so that the memory is really used.
fn allocate_without_end(kept: &mut Vec<Vec<u8>>) {
    loop {
        kept.push(vec![1; 1 << 20]);
    }
}

/// Keeps a MiB for each number.
fn allocates(env: StreamExecutionEnvironment) -> ! {
    let mut kept: Vec<Vec<u8>> = Vec::new();
    run(env, "allocates", move |n| {
        kept.push(vec![1; 1 << 20]);
        n
    })
}
