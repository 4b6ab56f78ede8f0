//! Values as text, as Java and Flink's formats write and read them, into and out of bytes and without an allocation.

mod number;
mod time;

pub use number::{
    NotANumber, parse_boolean, parse_decimal, parse_double, parse_float, parse_integer, trim, write_decimal,
    write_decimal_plain, write_double, write_float, write_integer,
};
pub use time::{
    Instant, TimestampFormat, date_of_days, days_of_date, instant_of, parse_date, parse_time,
    parse_timestamp, parse_timestamp_ltz, unit_value, write_date, write_time, write_timestamp,
};
