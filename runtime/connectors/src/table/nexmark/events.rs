//! Events by their number: kind, time and the ids that all others follow from.

use std::sync::Arc;

use super::config::NexmarkConfig;
use crate::table::random::Random;

const FIRST_ID: u64 = 1_000;
const FIRST_CATEGORY_ID: u64 = 10;
const CATEGORIES: u64 = 5;
/// How far ids of the future are used.
const ID_LEAD: u64 = 10;
/// Every so many ids there is a hot one.
const HOT_EVERY: u64 = 100;
const AUCTIONS_IN_FLIGHT: u64 = 100;
const ACTIVE_PEOPLE: u64 = 1_000;
const CHANNELS: u64 = 10_000;
const HOT_CHANNELS: [&str; 4] = ["Google", "Facebook", "Baidu", "Apple"];
/// Of the text that `extra` is cut from.
const POOL_BYTES: usize = 1 << 20;

/// The value of `event_type`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum EventKind {
    Person = 0,
    Auction = 1,
    Bid = 2,
}

impl EventKind {
    pub(super) const ALL: [Self; 3] = [Self::Person, Self::Auction, Self::Bid];
}

/// Which of an event's random numbers; each field has its own, so that what isn't read isn't drawn.
#[derive(Debug, Clone, Copy)]
#[repr(u64)]
pub(super) enum Draw {
    Name,
    Email,
    CreditCard,
    City,
    State,
    Extra,
    Seller,
    Category,
    InitialBid,
    Expires,
    ItemName,
    Description,
    Reserve,
    Auction,
    Bidder,
    Price,
    Channel,
}

/// Draws an event has at most.
const DRAWS: u64 = 32;

/// An event's number, and where it is among the kinds.
#[derive(Debug, Clone, Copy)]
pub(super) struct Event {
    /// From 0.
    pub(super) number: u64,
    epoch: u64,
    offset: u64,
}

/// Text that is the same for all events.
pub(super) struct Texts {
    /// Letters.
    pool: Vec<u8>,
    hot_urls: Vec<String>,
    channels: Vec<(String, String)>,
}

/// Makes events.
#[derive(Clone)]
pub(super) struct Generator {
    pub(super) config: NexmarkConfig,
    pub(super) base_time_ms: i64,
    pub(super) texts: Arc<Texts>,
}

impl Texts {
    pub(super) fn new(seed: u64) -> Self {
        let mut random = Random::new(seed);
        let url = |random: &mut Random| {
            let mut url = b"https://www.nexmark.com/".to_vec();
            for _ in 0..3 {
                write_string(&mut url, random, 5, b'_');
                url.push(b'/');
            }
            url.extend_from_slice(b"item.htm?query=1");
            String::from_utf8_lossy(&url).into_owned()
        };
        let pool = (0..POOL_BYTES).map(|_| b'a' + random.below(26) as u8).collect();
        let hot_urls = HOT_CHANNELS.iter().map(|_| url(&mut random)).collect();
        let channel = |number: u64| {
            let mut url = url(&mut random);
            if random.below(10) > 0 {
                let id = (number as i32).reverse_bits().wrapping_abs();
                url.push_str(&format!("&channel_id={id}"));
            }
            (format!("channel-{number}"), url)
        };
        let channels = (0..CHANNELS).map(channel).collect();
        Self {
            pool,
            hot_urls,
            channels,
        }
    }
}

/// 3 letters or more, less than `max`; one of 13 is `special`; spaces at the ends go.
pub(super) fn write_string(out: &mut Vec<u8>, random: &mut Random, max: u64, special: u8) {
    let begin = out.len();
    for _ in 0..3 + random.below(max - 3) {
        let letter = match random.below(13) {
            0 => special,
            _ => b'a' + random.below(26) as u8,
        };
        // None at the begin.
        if letter != b' ' || out.len() > begin {
            out.push(letter);
        }
    }
    while out.len() > begin && out.last() == Some(&b' ') {
        out.pop();
    }
}

impl Generator {
    /// An event; ids begin at 2, as in the reference: its first id is 1 and its first number too.
    #[inline]
    pub(super) fn event(&self, number: u64) -> Event {
        let id = number + 2;
        let total = self.config.total();
        Event {
            number,
            epoch: id / total,
            offset: id % total,
        }
    }

    #[inline]
    pub(super) fn kind(&self, event: &Event) -> EventKind {
        if event.offset < self.config.persons {
            EventKind::Person
        } else if event.offset < self.config.persons + self.config.auctions {
            EventKind::Auction
        } else {
            EventKind::Bid
        }
    }

    #[inline]
    pub(super) fn random(&self, event: &Event, draw: Draw) -> Random {
        Random::at(self.config.seed, event.number.wrapping_mul(DRAWS) + draw as u64)
    }

    /// Milliseconds since the epoch.
    #[inline]
    pub(super) fn timestamp(&self, number: u64) -> i64 {
        let micros = (number + 1) as f64 * self.config.delay_us;
        self.base_time_ms.saturating_add(micros as i64 / 1_000)
    }

    /// From 0.
    #[inline]
    fn last_person(&self, event: &Event) -> u64 {
        event.epoch * self.config.persons + event.offset.min(self.config.persons - 1)
    }

    /// From 0; before the first there is -1.
    #[inline]
    fn last_auction(&self, event: &Event) -> i64 {
        let NexmarkConfig {
            persons, auctions, ..
        } = self.config;
        let epoch = event.epoch.cast_signed();
        let (epoch, offset) = match self.kind(event) {
            EventKind::Person => (epoch - 1, auctions - 1),
            EventKind::Auction => (epoch, event.offset - persons),
            EventKind::Bid => (epoch, auctions - 1),
        };
        epoch * auctions.cast_signed() + offset.cast_signed()
    }

    #[inline]
    fn some_person(&self, event: &Event, random: &mut Random) -> u64 {
        let people = self.last_person(event) + 1;
        let active = people.min(ACTIVE_PEOPLE);
        people - active + random.below(active + ID_LEAD)
    }

    #[inline]
    pub(super) fn person_id(&self, event: &Event) -> i64 {
        (self.last_person(event) + FIRST_ID).cast_signed()
    }

    #[inline]
    pub(super) fn auction_id(&self, event: &Event) -> i64 {
        self.last_auction(event) + FIRST_ID.cast_signed()
    }

    pub(super) fn seller(&self, event: &Event) -> i64 {
        let mut random = self.random(event, Draw::Seller);
        let seller = match random.below(self.config.hot_sellers) {
            0 => self.some_person(event, &mut random),
            _ => self.last_person(event) / HOT_EVERY * HOT_EVERY,
        };
        (seller + FIRST_ID).cast_signed()
    }

    pub(super) fn category(&self, event: &Event) -> i64 {
        let mut random = self.random(event, Draw::Category);
        (FIRST_CATEGORY_ID + random.below(CATEGORIES)).cast_signed()
    }

    pub(super) fn price(&self, event: &Event, draw: Draw) -> i64 {
        let exponent = self.random(event, draw).unit() * 6.0;
        (10_f64.powf(exponent) * 100.0).round() as i64
    }

    pub(super) fn expires(&self, event: &Event) -> i64 {
        let NexmarkConfig { auctions, .. } = self.config;
        let ahead = AUCTIONS_IN_FLIGHT * self.config.total() / auctions;
        let now = self.timestamp(event.number);
        let horizon = self.timestamp(event.number + ahead) - now;
        let longest = (horizon * 2).max(1).cast_unsigned();
        let mut random = self.random(event, Draw::Expires);
        now + 1 + random.below(longest).cast_signed()
    }

    /// The auction that a bid is for.
    #[inline]
    pub(super) fn bid_auction(&self, event: &Event) -> i64 {
        let mut random = self.random(event, Draw::Auction);
        let last = self.last_auction(event);
        let auction = match random.below(self.config.hot_auctions) {
            0 => {
                let least = (last - AUCTIONS_IN_FLIGHT.cast_signed()).max(0);
                let span = (last - least).cast_unsigned() + 1 + ID_LEAD;
                least + random.below(span).cast_signed()
            }
            _ => last / HOT_EVERY.cast_signed() * HOT_EVERY.cast_signed(),
        };
        auction + FIRST_ID.cast_signed()
    }

    /// Who bids. The first id is added twice, as the reference does.
    #[inline]
    pub(super) fn bidder(&self, event: &Event) -> i64 {
        let mut random = self.random(event, Draw::Bidder);
        let bidder = match random.below(self.config.hot_bidders) {
            0 => self.some_person(event, &mut random),
            _ => self.last_person(event) / HOT_EVERY * HOT_EVERY + 1,
        };
        (bidder + 2 * FIRST_ID).cast_signed()
    }

    /// Channel and URL of a bid.
    #[inline]
    pub(super) fn channel(&self, event: &Event) -> (&str, &str) {
        let mut random = self.random(event, Draw::Channel);
        if random.below(2) > 0 {
            let hot = random.below(HOT_CHANNELS.len() as u64) as usize;
            (HOT_CHANNELS[hot], &self.texts.hot_urls[hot])
        } else {
            let (channel, url) = &self.texts.channels[random.below(CHANNELS) as usize];
            (channel, url)
        }
    }

    /// Letters that fill an event of `size` up to about its average.
    pub(super) fn write_extra(&self, out: &mut Vec<u8>, event: &Event, size: u64, average: u64) {
        let Some(missing) = average.checked_sub(size) else {
            return;
        };
        let mut random = self.random(event, Draw::Extra);
        let delta = (missing as f64 * 0.2).round() as u64;
        let mut length = (missing - delta + random.below(2 * delta)) as usize;
        let pool = &self.texts.pool;
        while length > 0 {
            let piece = length.min(pool.len() / 2);
            let begin = random.below((pool.len() - piece) as u64) as usize;
            out.extend_from_slice(&pool[begin..begin + piece]);
            length -= piece;
        }
    }
}
