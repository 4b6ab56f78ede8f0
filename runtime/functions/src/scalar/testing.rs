//! Tables of calls and what Flink gives for them.

use thalweg_plan::Expr;

use crate::resolve_scalar;
use crate::testing::show;

/// A function, its arguments and the result as CAST to STRING writes it ("NULL"; "error: part of the message").
pub(super) type Case<'a> = (&'a str, &'a [Expr], &'a str);

/// Compares them all.
pub(super) fn check(cases: &[Case<'_>]) {
    for (function, args, expected) in cases {
        let found = match resolve_scalar(function, args.to_vec(), None) {
            Ok(call) => show(call).unwrap_or_else(|error| format!("error: {error}")),
            Err(error) => format!("error: {error}"),
        };
        let args: Vec<String> = args.iter().map(ToString::to_string).collect();
        let what = format!("{function}({})", args.join(", "));
        match expected.strip_prefix("error: ") {
            Some(part) => assert!(
                found.starts_with("error: ") && found.contains(part),
                "{what} is {found}"
            ),
            None => assert_eq!(found, *expected, "{what}"),
        }
    }
}
