//! Columns of events: only the fields that are read are made, column by column.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, Int32Array, Int64Array, StringArray, StructArray, TimestampMicrosecondArray,
    TimestampMillisecondArray, TimestampNanosecondArray,
};
use arrow::buffer::{Buffer, NullBuffer, OffsetBuffer, ScalarBuffer};
use arrow::datatypes::{DataType as Arrow, TimeUnit};
use thalweg_plan::connector::{CatalogTable, ConnectorProblem, SourceColumn};
use thalweg_plan::{DataType, TypeRoot};

use super::events::{Draw, Event, EventKind, Generator, write_string};
use crate::table::options::refusal;
use crate::table::physical_fields;

const US_STATES: [&str; 6] = ["AZ", "CA", "ID", "OR", "WA", "WY"];
const US_CITIES: [&str; 10] = [
    "Phoenix",
    "Los Angeles",
    "San Francisco",
    "Boise",
    "Portland",
    "Bend",
    "Redmond",
    "Seattle",
    "Kent",
    "Cheyenne",
];
const FIRST_NAMES: [&str; 11] = [
    "Peter", "Paul", "Luke", "John", "Saul", "Vicky", "Kate", "Julie", "Sarah", "Deiter", "Walter",
];
const LAST_NAMES: [&str; 9] = [
    "Shultz", "Abrams", "Spencer", "White", "Bartels", "Walton", "Smith", "Jones", "Noris",
];
/// Of "1234 1234 1234 1234".
const CREDIT_CARD_BYTES: u64 = 19;

/// A field of an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Leaf {
    PersonId,
    PersonName,
    Email,
    CreditCard,
    City,
    State,
    PersonExtra,
    AuctionId,
    ItemName,
    Description,
    InitialBid,
    Reserve,
    Expires,
    Seller,
    Category,
    AuctionExtra,
    BidAuction,
    Bidder,
    Price,
    Channel,
    Url,
    BidExtra,
    DateTime,
}

/// What values a field has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Shape {
    Number,
    Text,
    Time,
}

/// A column that a scan gives.
#[derive(Debug, Clone)]
pub(super) enum Output {
    EventType,
    Leaf(EventKind, Leaf, DataType),
    Row(EventKind, Vec<(Leaf, DataType)>, DataType),
}

impl Leaf {
    fn of(kind: EventKind, name: &str) -> Option<Self> {
        use EventKind::{Auction, Bid, Person};
        Some(match (kind, name) {
            (_, "dateTime") => Self::DateTime,
            (Person, "id") => Self::PersonId,
            (Person, "name") => Self::PersonName,
            (Person, "emailAddress") => Self::Email,
            (Person, "creditCard") => Self::CreditCard,
            (Person, "city") => Self::City,
            (Person, "state") => Self::State,
            (Person, "extra") => Self::PersonExtra,
            (Auction, "id") => Self::AuctionId,
            (Auction, "itemName") => Self::ItemName,
            (Auction, "description") => Self::Description,
            (Auction, "initialBid") => Self::InitialBid,
            (Auction, "reserve") => Self::Reserve,
            (Auction, "expires") => Self::Expires,
            (Auction, "seller") => Self::Seller,
            (Auction, "category") => Self::Category,
            (Auction, "extra") => Self::AuctionExtra,
            (Bid, "auction") => Self::BidAuction,
            (Bid, "bidder") => Self::Bidder,
            (Bid, "price") => Self::Price,
            (Bid, "channel") => Self::Channel,
            (Bid, "url") => Self::Url,
            (Bid, "extra") => Self::BidExtra,
            _ => return None,
        })
    }

    fn shape(self) -> Shape {
        match self {
            Self::DateTime | Self::Expires => Shape::Time,
            Self::PersonId
            | Self::AuctionId
            | Self::InitialBid
            | Self::Reserve
            | Self::Seller
            | Self::Category
            | Self::BidAuction
            | Self::Bidder
            | Self::Price => Shape::Number,
            _ => Shape::Text,
        }
    }

    fn check(self, name: &str, data_type: &DataType) -> Result<(), ConnectorProblem> {
        let (fits, expected) = match self.shape() {
            Shape::Number => (data_type.root == TypeRoot::BigInt, "BIGINT"),
            Shape::Text => (
                matches!(data_type.root, TypeRoot::VarChar(_) | TypeRoot::Char(_)),
                "VARCHAR",
            ),
            Shape::Time => (matches!(data_type.root, TypeRoot::Timestamp(..)), "TIMESTAMP(3)"),
        };
        match fits {
            true => Ok(()),
            false => Err(refusal(format!(
                "The nexmark connector's field {name:?} is {expected}, not {data_type}."
            ))),
        }
    }
}

fn kind_of(name: &str) -> Option<EventKind> {
    match name {
        "person" => Some(EventKind::Person),
        "auction" => Some(EventKind::Auction),
        "bid" => Some(EventKind::Bid),
        _ => None,
    }
}

/// Whether the table's columns are the generator's, by name.
pub(super) fn check_columns(table: &CatalogTable) -> Result<(), ConnectorProblem> {
    for field in physical_fields(table) {
        let column = SourceColumn::Physical {
            path: vec![field.name],
            data_type: field.data_type,
        };
        output_of(&column)?;
    }
    Ok(())
}

/// What a wanted column is.
pub(super) fn output_of(column: &SourceColumn) -> Result<Output, ConnectorProblem> {
    let SourceColumn::Physical { path, data_type } = column else {
        return Err(refusal("The nexmark connector has no metadata columns."));
    };
    let unknown = || {
        refusal(format!(
            "The nexmark connector has no column {:?}: its columns are event_type, person, auction and bid, with the fields of the \
             reference generator.",
            path.join(".")
        ))
    };
    let names: Vec<&str> = path.iter().map(String::as_str).collect();
    match names.as_slice() {
        ["event_type"] if data_type.root == TypeRoot::Int => Ok(Output::EventType),
        ["event_type"] => Err(refusal(format!(
            "The nexmark connector's field \"event_type\" is INT, not {data_type}."
        ))),
        [row] => {
            let kind = kind_of(row).ok_or_else(unknown)?;
            let TypeRoot::Row(fields) = &data_type.root else {
                return Err(refusal(format!(
                    "The nexmark connector's field {row:?} is ROW, not {data_type}."
                )));
            };
            let leaf = |field: &thalweg_plan::Field| {
                let leaf = Leaf::of(kind, &field.name).ok_or_else(|| {
                    refusal(format!(
                        "The nexmark connector's {row} has no field {:?}.",
                        field.name
                    ))
                })?;
                leaf.check(&field.name, &field.data_type)?;
                Ok((leaf, field.data_type.clone()))
            };
            let leaves = fields.iter().map(leaf).collect::<Result<_, ConnectorProblem>>()?;
            Ok(Output::Row(kind, leaves, data_type.clone()))
        }
        [row, field] => {
            let kind = kind_of(row).ok_or_else(unknown)?;
            let leaf = Leaf::of(kind, field).ok_or_else(unknown)?;
            leaf.check(field, data_type)?;
            Ok(Output::Leaf(kind, leaf, data_type.clone()))
        }
        _ => Err(unknown()),
    }
}

/// The events of a batch, by kind.
pub(super) struct Events<'a> {
    generator: &'a Generator,
    rows: usize,
    kinds: Vec<EventKind>,
    by_kind: [OfKind; 3],
}

/// Events of one kind, the rows that they are in, and where the others leave nulls.
#[derive(Default)]
struct OfKind {
    events: Vec<(u32, Event)>,
    nulls: Option<NullBuffer>,
}

impl<'a> Events<'a> {
    /// The wanted ones of these numbers.
    pub(super) fn new(generator: &'a Generator, numbers: &[std::ops::Range<u64>], wanted: [bool; 3]) -> Self {
        let count = numbers
            .iter()
            .map(|range| (range.end - range.start) as usize)
            .sum();
        let mut kinds = Vec::with_capacity(count);
        let mut by_kind: [OfKind; 3] = Default::default();
        for number in numbers.iter().cloned().flatten() {
            let event = generator.event(number);
            let kind = generator.kind(&event);
            if wanted[kind as usize] {
                by_kind[kind as usize].events.push((kinds.len() as u32, event));
                kinds.push(kind);
            }
        }
        let rows = kinds.len();
        for kind in EventKind::ALL {
            let of_kind = &mut by_kind[kind as usize];
            if of_kind.events.len() < rows {
                of_kind.nulls = Some(kinds.iter().map(|other| *other == kind).collect());
            }
        }
        Self {
            generator,
            rows,
            kinds,
            by_kind,
        }
    }

    pub(super) fn rows(&self) -> usize {
        self.rows
    }

    pub(super) fn column(&self, output: &Output) -> ArrayRef {
        match output {
            Output::EventType => Arc::new(Int32Array::from_iter_values(
                self.kinds.iter().map(|kind| *kind as i32),
            )),
            Output::Leaf(kind, leaf, data_type) => self.leaf(*kind, *leaf, data_type),
            Output::Row(kind, leaves, data_type) => {
                let arrow = data_type.to_arrow();
                let Arrow::Struct(fields) = &arrow else {
                    return arrow::array::new_null_array(&arrow, self.rows);
                };
                let columns = leaves
                    .iter()
                    .map(|(leaf, data_type)| self.leaf(*kind, *leaf, data_type))
                    .collect();
                let nulls = self.by_kind[*kind as usize].nulls.clone();
                Arc::new(StructArray::new(fields.clone(), columns, nulls))
            }
        }
    }

    fn leaf(&self, kind: EventKind, leaf: Leaf, data_type: &DataType) -> ArrayRef {
        let generator = self.generator;
        let of_kind = &self.by_kind[kind as usize];
        match leaf {
            Leaf::DateTime => self.times(of_kind, data_type, |event| generator.timestamp(event.number)),
            Leaf::Expires => self.times(of_kind, data_type, |event| generator.expires(event)),
            Leaf::PersonId => self.numbers(of_kind, |event| generator.person_id(event)),
            Leaf::AuctionId => self.numbers(of_kind, |event| generator.auction_id(event)),
            Leaf::Seller => self.numbers(of_kind, |event| generator.seller(event)),
            Leaf::Category => self.numbers(of_kind, |event| generator.category(event)),
            Leaf::InitialBid => self.numbers(of_kind, |event| generator.price(event, Draw::InitialBid)),
            Leaf::Reserve => self.numbers(of_kind, |event| {
                generator.price(event, Draw::InitialBid) + generator.price(event, Draw::Reserve)
            }),
            Leaf::BidAuction => self.numbers(of_kind, |event| generator.bid_auction(event)),
            Leaf::Bidder => self.numbers(of_kind, |event| generator.bidder(event)),
            Leaf::Price => self.numbers(of_kind, |event| generator.price(event, Draw::Price)),
            Leaf::Channel => self.texts(of_kind, 10, |event, out| {
                out.extend_from_slice(generator.channel(event).0.as_bytes());
            }),
            Leaf::Url => self.texts(of_kind, 80, |event, out| {
                out.extend_from_slice(generator.channel(event).1.as_bytes());
            }),
            Leaf::BidExtra => {
                let average = generator.config.bid_size;
                // 4 numbers of 8 bytes; the texts aren't counted there.
                self.texts(of_kind, average as usize, |event, out| {
                    generator.write_extra(out, event, 32, average);
                })
            }
            Leaf::PersonExtra => {
                let average = generator.config.person_size;
                self.texts(of_kind, average as usize, |event, out| {
                    let begin = out.len();
                    write_name(generator, event, out);
                    write_email(generator, event, out);
                    out.extend_from_slice(city(generator, event).as_bytes());
                    let size = (out.len() - begin) as u64 + 8 + CREDIT_CARD_BYTES + 2;
                    out.truncate(begin);
                    generator.write_extra(out, event, size, average);
                })
            }
            Leaf::AuctionExtra => {
                let average = generator.config.auction_size;
                self.texts(of_kind, average as usize, |event, out| {
                    let begin = out.len();
                    write_item_name(generator, event, out);
                    write_description(generator, event, out);
                    let size = (out.len() - begin) as u64 + 48;
                    out.truncate(begin);
                    generator.write_extra(out, event, size, average);
                })
            }
            Leaf::PersonName => self.texts(of_kind, 13, |event, out| write_name(generator, event, out)),
            Leaf::Email => self.texts(of_kind, 14, |event, out| write_email(generator, event, out)),
            Leaf::CreditCard => {
                self.texts(of_kind, 19, |event, out| write_credit_card(generator, event, out))
            }
            Leaf::City => self.texts(of_kind, 13, |event, out| {
                out.extend_from_slice(city(generator, event).as_bytes());
            }),
            Leaf::State => self.texts(of_kind, 2, |event, out| {
                let mut random = generator.random(event, Draw::State);
                out.extend_from_slice(pick(&US_STATES, &mut random).as_bytes());
            }),
            Leaf::ItemName => self.texts(of_kind, 12, |event, out| write_item_name(generator, event, out)),
            Leaf::Description => {
                self.texts(of_kind, 52, |event, out| write_description(generator, event, out))
            }
        }
    }

    fn values(&self, of_kind: &OfKind, make: impl Fn(&Event) -> i64) -> Vec<i64> {
        if of_kind.nulls.is_none() {
            return of_kind.events.iter().map(|(_, event)| make(event)).collect();
        }
        let mut values = vec![0; self.rows];
        for (row, event) in &of_kind.events {
            values[*row as usize] = make(event);
        }
        values
    }

    fn numbers(&self, of_kind: &OfKind, make: impl Fn(&Event) -> i64) -> ArrayRef {
        let values = self.values(of_kind, make);
        Arc::new(Int64Array::new(values.into(), of_kind.nulls.clone()))
    }

    fn times(&self, of_kind: &OfKind, data_type: &DataType, make: impl Fn(&Event) -> i64) -> ArrayRef {
        let nulls = of_kind.nulls.clone();
        match data_type.to_arrow() {
            Arrow::Timestamp(TimeUnit::Microsecond, _) => {
                let values = self.values(of_kind, |event| make(event).saturating_mul(1_000));
                Arc::new(TimestampMicrosecondArray::new(values.into(), nulls))
            }
            Arrow::Timestamp(TimeUnit::Nanosecond, _) => {
                let values = self.values(of_kind, |event| make(event).saturating_mul(1_000_000));
                Arc::new(TimestampNanosecondArray::new(values.into(), nulls))
            }
            _ => {
                let values = self.values(of_kind, make);
                Arc::new(TimestampMillisecondArray::new(values.into(), nulls))
            }
        }
    }

    fn texts(&self, of_kind: &OfKind, about: usize, mut write: impl FnMut(&Event, &mut Vec<u8>)) -> ArrayRef {
        let mut bytes = Vec::with_capacity(of_kind.events.len() * about);
        let mut offsets: Vec<i32> = Vec::with_capacity(self.rows + 1);
        offsets.push(0);
        for (row, event) in &of_kind.events {
            // Rows of other kinds before it are empty.
            offsets.resize(*row as usize + 1, bytes.len() as i32);
            write(event, &mut bytes);
            offsets.push(bytes.len() as i32);
        }
        offsets.resize(self.rows + 1, bytes.len() as i32);
        let offsets = OffsetBuffer::new(ScalarBuffer::from(offsets));
        match StringArray::try_new(offsets, Buffer::from_vec(bytes), of_kind.nulls.clone()) {
            Ok(texts) => Arc::new(texts),
            Err(_) => arrow::array::new_null_array(&Arrow::Utf8, self.rows),
        }
    }
}

fn pick<'t>(texts: &[&'t str], random: &mut crate::table::random::Random) -> &'t str {
    texts[random.below(texts.len() as u64) as usize]
}

fn city(generator: &Generator, event: &Event) -> &'static str {
    pick(&US_CITIES, &mut generator.random(event, Draw::City))
}

fn write_name(generator: &Generator, event: &Event, out: &mut Vec<u8>) {
    let mut random = generator.random(event, Draw::Name);
    out.extend_from_slice(pick(&FIRST_NAMES, &mut random).as_bytes());
    out.push(b' ');
    out.extend_from_slice(pick(&LAST_NAMES, &mut random).as_bytes());
}

fn write_email(generator: &Generator, event: &Event, out: &mut Vec<u8>) {
    let mut random = generator.random(event, Draw::Email);
    write_string(out, &mut random, 7, b' ');
    out.push(b'@');
    write_string(out, &mut random, 5, b' ');
    out.extend_from_slice(b".com");
}

fn write_credit_card(generator: &Generator, event: &Event, out: &mut Vec<u8>) {
    let mut random = generator.random(event, Draw::CreditCard);
    for group in 0..4 {
        if group > 0 {
            out.push(b' ');
        }
        let number = random.below(10_000);
        for unit in [1_000, 100, 10, 1] {
            out.push(b'0' + (number / unit % 10) as u8);
        }
    }
}

fn write_item_name(generator: &Generator, event: &Event, out: &mut Vec<u8>) {
    write_string(out, &mut generator.random(event, Draw::ItemName), 20, b' ');
}

fn write_description(generator: &Generator, event: &Event, out: &mut Vec<u8>) {
    write_string(out, &mut generator.random(event, Draw::Description), 100, b' ');
}
