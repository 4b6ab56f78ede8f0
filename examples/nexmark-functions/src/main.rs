//! Functions for SQL scripts over Nexmark's stream: a program that runs scripts with these functions in reach of CREATE FUNCTION.
//!
//! ```text
//!   CREATE FUNCTION count_char AS 'com.github.nexmark.flink.udf.CountChar';      -- query 14's
//!   SELECT count_char(extra, 'c') FROM bid;
//!
//!   CREATE FUNCTION split_text AS 'com.example.Split';
//!   SELECT auction, part FROM bid, LATERAL TABLE(split_text(url, '/')) AS parts (part, place) WHERE place > 3;
//!
//!   CREATE FUNCTION weighted_average AS 'com.example.WeightedAverage';
//!   SELECT bidder, weighted_average(price, auction) FROM bid GROUP BY bidder;
//! ```

mod count_char;
mod split;
mod weighted_average;

use std::process::ExitCode;

use thalweg_script::functions::UserFunctions;

fn main() -> ExitCode {
    let functions = UserFunctions::default()
        .scalar("com.github.nexmark.flink.udf.CountChar", count_char::CountChar)
        .table("com.example.Split", split::Split)
        .aggregate("com.example.WeightedAverage", weighted_average::WeightedAverage);
    thalweg_script::main(functions)
}
