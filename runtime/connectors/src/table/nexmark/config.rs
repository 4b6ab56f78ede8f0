//! The connector's options, with the reference's names and defaults.

use std::path::PathBuf;

use thalweg_plan::connector::{CatalogTable, ConnectorProblem};

use crate::table::options::{SOURCE_KEYS, TableOptions, problem};

/// 2015-07-15T00:00:00Z, where times begin with a seed.
pub(super) const SEEDED_BASE_TIME_MS: i64 = 1_436_918_400_000;

const KEYS: [&str; 20] = [
    "rate.shape",
    "rate.period",
    "rate.limited",
    "first-event.rate",
    "next-event.rate",
    "person.avg-size",
    "auction.avg-size",
    "bid.avg-size",
    "person.proportion",
    "auction.proportion",
    "bid.proportion",
    "bid.hot-ratio.auctions",
    "bid.hot-ratio.bidders",
    "auction.hot-ratio.sellers",
    "events.num",
    "keep-alive",
    "stop-at",
    "max-emit-speed",
    "seed",
    "recorded.path",
];

/// What the generator needs.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct NexmarkConfig {
    /// Between two events, in microseconds.
    pub(super) delay_us: f64,
    pub(super) person_size: u64,
    pub(super) auction_size: u64,
    pub(super) bid_size: u64,
    pub(super) persons: u64,
    pub(super) auctions: u64,
    pub(super) bids: u64,
    pub(super) hot_auctions: u64,
    pub(super) hot_bidders: u64,
    pub(super) hot_sellers: u64,
    /// `u64::MAX` = without end.
    pub(super) events: u64,
    pub(super) keep_alive: bool,
    /// Else an event is given when its time has come.
    pub(super) max_speed: bool,
    pub(super) seed: u64,
    /// `None` = when the job starts.
    pub(super) base_time_ms: Option<i64>,
    /// A folder of recorded events, which are given in place of made ones.
    pub(super) recorded: Option<PathBuf>,
}

impl NexmarkConfig {
    pub(super) fn read(table: &CatalogTable) -> Result<Self, ConnectorProblem> {
        let mut options = TableOptions::new("nexmark", table, SOURCE_KEYS.into_iter().chain(KEYS));
        options.validate(&[])?;
        // These have no effect in the reference either.
        options.choice("rate.shape", &[("SQUARE", ()), ("SINE", ())], ())?;
        options.duration("rate.period")?;
        options.boolean("rate.limited", false)?;
        options.number::<i32>("next-event.rate")?;
        let at_least = |key: &str, least: u64, default: u64| match options.number::<u32>(key)? {
            None => Ok(default),
            Some(value) if u64::from(value) >= least => Ok(value.into()),
            Some(value) => Err(problem(
                key,
                format!("Invalid value for option '{key}': {value} is below {least}."),
            )),
        };
        let size = |key: &str, default: u64| -> Result<u64, ConnectorProblem> {
            match options.memory(key)?.unwrap_or(default) {
                size if size <= 1 << 24 => Ok(size),
                size => Err(problem(
                    key,
                    format!("Invalid value for option '{key}': {size} bytes are more than 16 MiB."),
                )),
            }
        };
        let seed: Option<u64> = options.number("seed")?;
        let events: u64 = options.number("events.num")?.unwrap_or(0);
        let stop_at: i64 = options.number("stop-at")?.unwrap_or(-1);
        let events = if events == 0 { u64::MAX } else { events };
        let config = Self {
            delay_us: 1_000_000.0 / at_least("first-event.rate", 1, 10_000)? as f64,
            person_size: size("person.avg-size", 200)?,
            auction_size: size("auction.avg-size", 500)?,
            bid_size: size("bid.avg-size", 100)?,
            persons: at_least("person.proportion", 1, 1)?,
            auctions: at_least("auction.proportion", 1, 3)?,
            bids: at_least("bid.proportion", 0, 46)?,
            hot_auctions: at_least("bid.hot-ratio.auctions", 1, 2)?,
            hot_bidders: at_least("bid.hot-ratio.bidders", 1, 4)?,
            hot_sellers: at_least("auction.hot-ratio.sellers", 1, 4)?,
            events: u64::try_from(stop_at).map_or(events, |stop_at| events.min(stop_at)),
            keep_alive: options.boolean("keep-alive", false)?,
            max_speed: options.boolean("max-emit-speed", true)?,
            seed: seed.unwrap_or(0),
            base_time_ms: seed.map(|_| SEEDED_BASE_TIME_MS),
            recorded: options.get("recorded.path").map(PathBuf::from),
        };
        Ok(config)
    }

    /// So many events with that seed and `first-event.rate`, all else by default.
    pub(super) fn seeded(seed: u64, rate: u32, events: u64) -> Self {
        Self {
            delay_us: 1_000_000.0 / f64::from(rate),
            person_size: 200,
            auction_size: 500,
            bid_size: 100,
            persons: 1,
            auctions: 3,
            bids: 46,
            hot_auctions: 2,
            hot_bidders: 4,
            hot_sellers: 4,
            events,
            keep_alive: false,
            max_speed: true,
            seed,
            base_time_ms: Some(SEEDED_BASE_TIME_MS),
            recorded: None,
        }
    }

    pub(super) fn total(&self) -> u64 {
        self.persons + self.auctions + self.bids
    }
}
