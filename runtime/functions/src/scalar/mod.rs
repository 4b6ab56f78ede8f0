//! Functions called by name, in groups.

mod arrays;
mod clock;
mod date_pattern;
mod encoding;
mod java_map;
mod java_regex;
mod json;
mod json_build;
mod json_path;
mod json_tree;
mod maps;
mod math;
mod parts;
mod periods;
mod regexp;
mod rounding;
mod string;
mod support;
mod temporal;
mod temporal_rounding;
#[cfg(test)]
mod testing;
mod time_text;
mod units;
mod url;
mod utf16;

use thalweg_plan::Expr;

use crate::registry::ScalarFunction;

/// Each module's functions.
const GROUPS: &[&[ScalarFunction]] = &[
    math::FUNCTIONS,
    rounding::FUNCTIONS,
    string::FUNCTIONS,
    parts::FUNCTIONS,
    regexp::FUNCTIONS,
    encoding::FUNCTIONS,
    url::FUNCTIONS,
    clock::FUNCTIONS,
    temporal::FUNCTIONS,
    time_text::FUNCTIONS,
    json::FUNCTIONS,
    json_build::FUNCTIONS,
    arrays::FUNCTIONS,
    maps::FUNCTIONS,
    periods::FUNCTIONS,
];

/// A function by its name, upper case.
pub(crate) fn find(name: &str) -> Option<&'static ScalarFunction> {
    all().find(|function| function.name == name)
}

/// All functions.
pub(crate) fn all() -> impl Iterator<Item = &'static ScalarFunction> {
    GROUPS.iter().flat_map(|group| group.iter())
}

/// Arguments as a function needs them before their types are looked at.
pub(crate) fn prepare(function: &str, args: Vec<Expr>) -> Vec<Expr> {
    json_build::prepare(function, args)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::operators;

    #[test]
    fn each_name_is_of_one_function() {
        let mut names: Vec<&str> = all()
            .chain(operators::all())
            .map(|function| function.name)
            .collect();
        let total = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), total);
    }
}
