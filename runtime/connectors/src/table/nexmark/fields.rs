//! Columns of events: only the fields that are read are made, column by column.

use arrow::array::ArrayRef;
use thalweg_plan::connector::{CatalogTable, ConnectorProblem, SourceColumn};
use thalweg_plan::{DataType, TypeRoot};

use super::events::{Draw, Event, EventKind, Generator, write_string};
use super::rows::EventRows;
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
pub(super) enum Shape {
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

    pub(super) fn shape(self) -> Shape {
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

/// The events of a batch.
pub(super) struct Events<'a> {
    generator: &'a Generator,
    rows: EventRows<Event>,
}

impl<'a> Events<'a> {
    /// The wanted ones of these numbers.
    pub(super) fn new(generator: &'a Generator, numbers: &[std::ops::Range<u64>], wanted: [bool; 3]) -> Self {
        let events = numbers.iter().cloned().flatten().map(|number| {
            let event = generator.event(number);
            (generator.kind(&event), event)
        });
        Self {
            generator,
            rows: EventRows::new(events, wanted),
        }
    }

    pub(super) fn rows(&self) -> usize {
        self.rows.len()
    }

    pub(super) fn column(&self, output: &Output) -> ArrayRef {
        self.rows
            .column(output, |kind, leaf, data_type| self.leaf(kind, leaf, data_type))
    }

    fn leaf(&self, kind: EventKind, leaf: Leaf, data_type: &DataType) -> ArrayRef {
        let generator = self.generator;
        let rows = &self.rows;
        match leaf {
            Leaf::DateTime => rows.times(kind, data_type, |event| generator.timestamp(event.number)),
            Leaf::Expires => rows.times(kind, data_type, |event| generator.expires(event)),
            Leaf::PersonId => rows.numbers(kind, |event| generator.person_id(event)),
            Leaf::AuctionId => rows.numbers(kind, |event| generator.auction_id(event)),
            Leaf::Seller => rows.numbers(kind, |event| generator.seller(event)),
            Leaf::Category => rows.numbers(kind, |event| generator.category(event)),
            Leaf::InitialBid => rows.numbers(kind, |event| generator.price(event, Draw::InitialBid)),
            Leaf::Reserve => rows.numbers(kind, |event| {
                generator.price(event, Draw::InitialBid) + generator.price(event, Draw::Reserve)
            }),
            Leaf::BidAuction => rows.numbers(kind, |event| generator.bid_auction(event)),
            Leaf::Bidder => rows.numbers(kind, |event| generator.bidder(event)),
            Leaf::Price => rows.numbers(kind, |event| generator.price(event, Draw::Price)),
            Leaf::Channel => rows.texts(kind, 10, |event, out| {
                out.extend_from_slice(generator.channel(event).0.as_bytes());
            }),
            Leaf::Url => rows.texts(kind, 80, |event, out| {
                out.extend_from_slice(generator.channel(event).1.as_bytes());
            }),
            Leaf::BidExtra => {
                let average = generator.config.bid_size;
                // 4 numbers of 8 bytes; the texts aren't counted there.
                rows.texts(kind, average as usize, |event, out| {
                    generator.write_extra(out, event, 32, average);
                })
            }
            Leaf::PersonExtra => {
                let average = generator.config.person_size;
                rows.texts(kind, average as usize, |event, out| {
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
                rows.texts(kind, average as usize, |event, out| {
                    let begin = out.len();
                    write_item_name(generator, event, out);
                    write_description(generator, event, out);
                    let size = (out.len() - begin) as u64 + 48;
                    out.truncate(begin);
                    generator.write_extra(out, event, size, average);
                })
            }
            Leaf::PersonName => rows.texts(kind, 13, |event, out| write_name(generator, event, out)),
            Leaf::Email => rows.texts(kind, 14, |event, out| write_email(generator, event, out)),
            Leaf::CreditCard => rows.texts(kind, 19, |event, out| write_credit_card(generator, event, out)),
            Leaf::City => rows.texts(kind, 13, |event, out| {
                out.extend_from_slice(city(generator, event).as_bytes());
            }),
            Leaf::State => rows.texts(kind, 2, |event, out| {
                let mut random = generator.random(event, Draw::State);
                out.extend_from_slice(pick(&US_STATES, &mut random).as_bytes());
            }),
            Leaf::ItemName => rows.texts(kind, 12, |event, out| write_item_name(generator, event, out)),
            Leaf::Description => rows.texts(kind, 52, |event, out| write_description(generator, event, out)),
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
