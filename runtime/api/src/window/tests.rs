//! Windows against a naive twin, and single cases that say what the twin does not.

mod any_trigger;
mod cases;
mod evictors;
mod random;
mod triggers;
mod twin;

use super::contents::{Folded, Listed};
use super::fold::{Aggregate, Reduce};
use super::function::{Apply, ByFunction, Passthrough};
use super::*;
use crate::function::Collector;
use crate::function::testing::{Harness, Route, Word};
use crate::side_output::{OutputTag, SideOutputTags};

/// Key, start, end, and the values that the window holds, sorted.
type Shown = (String, i64, i64, String);

fn late() -> OutputTag<Word> {
    OutputTag::new("late")
}

fn windowing<G>(assigner: impl Into<WindowAssigner>, trigger: G, lateness: i64) -> Windowing<G> {
    Windowing {
        assigner: assigner.into(),
        trigger,
        lateness,
    }
}

fn show(key: &str, window: TimeWindow, mut values: Vec<i64>, out: &mut Collector<Shown>) {
    values.sort_unstable();
    out.collect((key, window.start, window.end, &format!("{values:?}")));
}

/// An operator that keeps all elements and shows them.
fn listing<G: Trigger<Word>>(windowing: Windowing<G>) -> Harness<Shown> {
    let all = |key: &str, window: TimeWindow, elements: &[Word], out: &mut Collector<Shown>| {
        show(key, window, elements.iter().map(|(_, n)| *n).collect(), out);
    };
    harness(
        windowing,
        Listed::new(
            Some(late()),
            ByFunction(Apply::<_, String, Word, Shown>::new(all)),
        ),
    )
}

fn harness<C: contents::Contents, G: Trigger<C::Element>>(
    windowing: Windowing<G>,
    contents: C,
) -> Harness<C::Out> {
    let tags = SideOutputTags::default();
    tags.register(&late()).unwrap();
    Harness::of_logic(&[Route::Key], &tags, move || {
        WindowLogic::new((windowing.clone(), contents.clone()))
    })
}

fn word(key: &str, value: i64) -> Word {
    (key.to_owned(), value)
}
