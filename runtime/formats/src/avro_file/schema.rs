//! The schema that a file was written with.

use std::collections::HashMap;

use serde_json::{Map, Value};

use crate::FormatError;

/// More types than any schema has.
const MOST_NODES: usize = 100_000;

/// A type's place in the schema.
pub(super) type NodeId = usize;

/// A type.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Node {
    Null,
    Boolean,
    Int,
    Long,
    Float,
    Double,
    Bytes,
    String,
    Fixed(usize),
    Enum(Vec<String>),
    Array(NodeId),
    Map(NodeId),
    Union(Vec<NodeId>),
    Record(Vec<(String, NodeId)>),
}

/// What values mean.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Logical {
    None,
    Decimal {
        precision: u64,
        scale: u64,
    },
    /// Named as in Avro: date, time-millis, timestamp-micros ..
    Named(String),
}

/// All types; named ones may hold themselves.
#[derive(Debug)]
pub(super) struct WriterSchema {
    nodes: Vec<(Node, Logical)>,
    pub(super) root: NodeId,
}

impl WriterSchema {
    pub(super) fn parse(text: &[u8]) -> Result<Self, FormatError> {
        let json: Value = serde_json::from_slice(text)
            .map_err(|error| FormatError::syntax(format!("its schema is no JSON: {error}")))?;
        let mut parser = Parser {
            nodes: Vec::new(),
            named: HashMap::new(),
        };
        let root = parser.node(&json, "")?;
        Ok(Self {
            nodes: parser.nodes,
            root,
        })
    }

    pub(super) fn node(&self, id: NodeId) -> &Node {
        self.nodes.get(id).map_or(&Node::Null, |(node, _)| node)
    }

    pub(super) fn logical(&self, id: NodeId) -> &Logical {
        self.nodes.get(id).map_or(&Logical::None, |(_, logical)| logical)
    }

    /// A type in words, for messages.
    pub(super) fn describe(&self, id: NodeId) -> String {
        let name = match self.node(id) {
            Node::Null => "null",
            Node::Boolean => "boolean",
            Node::Int => "int",
            Node::Long => "long",
            Node::Float => "float",
            Node::Double => "double",
            Node::Bytes => "bytes",
            Node::String => "string",
            Node::Fixed(_) => "fixed",
            Node::Enum(_) => "enum",
            Node::Array(_) => "array",
            Node::Map(_) => "map",
            Node::Union(_) => "union",
            Node::Record(_) => "record",
        };
        match self.logical(id) {
            Logical::None => name.to_owned(),
            Logical::Decimal { precision, scale } => format!("{name} (decimal({precision}, {scale}))"),
            Logical::Named(logical) => format!("{name} ({logical})"),
        }
    }
}

struct Parser {
    nodes: Vec<(Node, Logical)>,
    named: HashMap<String, NodeId>,
}

fn wrong(what: impl Into<String>) -> FormatError {
    FormatError::Syntax(format!("its schema is none of Avro's: {}", what.into()))
}

fn text<'a>(object: &'a Map<String, Value>, key: &str) -> Result<&'a str, FormatError> {
    let value = object.get(key).and_then(Value::as_str);
    value.ok_or_else(|| wrong(format!("a type without {key:?}")))
}

fn number(object: &Map<String, Value>, key: &str) -> Option<u64> {
    object.get(key).and_then(Value::as_u64)
}

impl Parser {
    fn add(&mut self, node: Node, logical: Logical) -> Result<NodeId, FormatError> {
        if self.nodes.len() >= MOST_NODES {
            return Err(wrong("it has too many types"));
        }
        self.nodes.push((node, logical));
        Ok(self.nodes.len() - 1)
    }

    fn node(&mut self, json: &Value, namespace: &str) -> Result<NodeId, FormatError> {
        match json {
            Value::String(name) => self.of_name(name, namespace, Logical::None),
            Value::Array(branches) => {
                let branches = branches.iter().map(|branch| self.node(branch, namespace));
                let branches = branches.collect::<Result<_, _>>()?;
                self.add(Node::Union(branches), Logical::None)
            }
            Value::Object(object) => self.of_object(object, namespace),
            _ => Err(wrong(format!("{json} is no type"))),
        }
    }

    fn of_name(&mut self, name: &str, namespace: &str, logical: Logical) -> Result<NodeId, FormatError> {
        let node = match name {
            "null" => Node::Null,
            "boolean" => Node::Boolean,
            "int" => Node::Int,
            "long" => Node::Long,
            "float" => Node::Float,
            "double" => Node::Double,
            "bytes" => Node::Bytes,
            "string" => Node::String,
            named => {
                let found = self
                    .named
                    .get(&full_name(named, namespace))
                    .or_else(|| self.named.get(named));
                return found
                    .copied()
                    .ok_or_else(|| wrong(format!("there is no type {named:?}")));
            }
        };
        self.add(node, logical)
    }

    fn of_object(&mut self, object: &Map<String, Value>, namespace: &str) -> Result<NodeId, FormatError> {
        let logical = logical(object);
        let Some(kind) = object.get("type") else {
            return Err(wrong("a type without \"type\""));
        };
        let Some(kind) = kind.as_str() else {
            return self.node(kind, namespace);
        };
        let part = |key: &str| {
            object
                .get(key)
                .ok_or_else(|| wrong(format!("{kind} without {key:?}")))
        };
        match kind {
            "array" => {
                let items = self.node(part("items")?, namespace)?;
                self.add(Node::Array(items), logical)
            }
            "map" => {
                let values = self.node(part("values")?, namespace)?;
                self.add(Node::Map(values), logical)
            }
            "fixed" => {
                let size = number(object, "size").and_then(|size| usize::try_from(size).ok());
                let size = size.ok_or_else(|| wrong("fixed without \"size\""))?;
                let id = self.add(Node::Fixed(size), logical)?;
                self.name(object, namespace, id).map(|_| id)
            }
            "enum" => {
                let symbols = part("symbols")?.as_array().into_iter().flatten();
                let symbols = symbols
                    .filter_map(|symbol| symbol.as_str().map(str::to_owned))
                    .collect();
                let id = self.add(Node::Enum(symbols), logical)?;
                self.name(object, namespace, id).map(|_| id)
            }
            "record" | "error" => {
                // Its fields may name it.
                let id = self.add(Node::Record(Vec::new()), Logical::None)?;
                let namespace = self.name(object, namespace, id)?;
                let fields = part("fields")?
                    .as_array()
                    .ok_or_else(|| wrong("a record's fields are no list"))?;
                let mut read = Vec::with_capacity(fields.len());
                for field in fields {
                    let field = field.as_object().ok_or_else(|| wrong("a field is no object"))?;
                    let data_type = field
                        .get("type")
                        .ok_or_else(|| wrong("a field without \"type\""))?;
                    read.push((text(field, "name")?.to_owned(), self.node(data_type, &namespace)?));
                }
                self.nodes[id].0 = Node::Record(read);
                Ok(id)
            }
            name => self.of_name(name, namespace, logical),
        }
    }

    /// Registers a named type; gives the namespace within it.
    fn name(
        &mut self,
        object: &Map<String, Value>,
        namespace: &str,
        id: NodeId,
    ) -> Result<String, FormatError> {
        let namespace = object
            .get("namespace")
            .and_then(Value::as_str)
            .unwrap_or(namespace);
        let full = full_name(text(object, "name")?, namespace);
        let within = full
            .rsplit_once('.')
            .map_or("", |(namespace, _)| namespace)
            .to_owned();
        self.named.insert(full, id);
        Ok(within)
    }
}

fn full_name(name: &str, namespace: &str) -> String {
    match name.contains('.') || namespace.is_empty() {
        true => name.to_owned(),
        false => format!("{namespace}.{name}"),
    }
}

fn logical(object: &Map<String, Value>) -> Logical {
    match object.get("logicalType").and_then(Value::as_str) {
        None => Logical::None,
        Some("decimal") => Logical::Decimal {
            precision: number(object, "precision").unwrap_or(0),
            scale: number(object, "scale").unwrap_or(0),
        },
        Some(name) => Logical::Named(name.to_owned()),
    }
}
