//! Functions of CREATE FUNCTION: classes by name. Names are looked up as in Flink: temporary system functions, built-in ones, temporary ones,
//! those of the catalog.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use crate::ast::{CreateFunction, Drop};
use crate::error::{Position, SqlError};

use super::last_name;

/// Where a function is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Scope {
    TemporarySystem,
    Temporary,
    Catalog,
}

impl Scope {
    fn of(temporary: bool, system: bool) -> Self {
        match (temporary, system) {
            (_, true) => Self::TemporarySystem,
            (true, false) => Self::Temporary,
            (false, false) => Self::Catalog,
        }
    }
}

/// Classes by scope and name, in upper case.
#[derive(Debug, Clone, Default)]
pub(crate) struct Functions {
    classes: BTreeMap<(Scope, String), String>,
}

impl Functions {
    /// The class that a name is called by; `None`: a built-in function, or none.
    pub(crate) fn class(&self, name: &str) -> Option<&str> {
        let of = |scope| self.classes.get(&(scope, name.to_owned()));
        let in_catalog = || of(Scope::Temporary).or_else(|| of(Scope::Catalog));
        let found = of(Scope::TemporarySystem).or_else(|| match thalweg_functions::is_known(name) {
            true => None,
            false => in_catalog(),
        });
        found.map(String::as_str)
    }

    /// Names, in upper case; each once.
    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        let mut names: Vec<&str> = self.classes.keys().map(|(_, name)| name.as_str()).collect();
        names.sort_unstable();
        names.dedup();
        names.into_iter()
    }

    /// CREATE FUNCTION. Whether there is such a class shows when the function is called.
    pub(super) fn create(&mut self, create: &CreateFunction) -> Result<(), SqlError> {
        let name = last_name(&create.name).to_ascii_uppercase();
        if create.language.as_deref() == Some("SQL") {
            let message = "LANGUAGE SQL of a function is not supported: JAVA, SCALA and PYTHON are, and mean a function of the job's package";
            return Err(SqlError::unsupported(message, create.position));
        }
        match self
            .classes
            .entry((Scope::of(create.temporary, create.system), name))
        {
            Entry::Vacant(free) => {
                free.insert(create.class.value.clone());
                Ok(())
            }
            Entry::Occupied(_) if create.if_not_exists => Ok(()),
            Entry::Occupied(taken) => {
                let message = format!("Function '{}' exists", taken.key().1);
                Err(SqlError::semantic(message, create.position))
            }
        }
    }

    /// DROP FUNCTION.
    pub(super) fn drop(&mut self, drop: &Drop) -> Result<(), SqlError> {
        let scope = Scope::of(drop.temporary, drop.system);
        let name = last_name(&drop.name);
        let found = self.classes.remove(&(scope, name.to_ascii_uppercase()));
        if found.is_some() || drop.if_exists {
            return Ok(());
        }
        let known = self.classes.keys().filter(|(of, _)| *of == scope);
        let what = match scope {
            Scope::TemporarySystem => "temporary system function",
            Scope::Temporary => "temporary function",
            Scope::Catalog => "function",
        };
        let known = known.map(|(_, name)| name.as_str());
        Err(SqlError::unknown(what, &name, known, Position::of(&drop.name)))
    }
}
