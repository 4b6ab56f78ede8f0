//! Flink's aggregate functions as DataFusion's.
//!
//! ```text
//!   AggregateCall --> FlinkFunction: AggregateUDFImpl --> Groups: GroupsAccumulator      GROUP BY
//!                                                     --> Frame: Accumulator             OVER
//!                                    both over thalweg_operators' GroupedFunction
//! ```
//!
//! COUNT, and MIN and MAX of types whose order is DataFusion's, are DataFusion's own ([`udaf`]). DISTINCT: [`Groups`] remembers the values
//! of each group and passes new ones on.
//!
//! Invariant: partial results that are spilled are those that the accumulators gather; distinct values are a list a group.

mod distinct;

use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::{Arc, Mutex, PoisonError};

use arrow::array::{Array, ArrayRef, BooleanArray};
use arrow::datatypes::{DataType, Field, FieldRef};
use arrow::error::ArrowError;
use datafusion_common::{Result, ScalarValue};
use datafusion_expr::function::{AccumulatorArgs, StateFieldsArgs};
use datafusion_expr::utils::AggregateOrderSensitivity;
use datafusion_expr::{
    Accumulator, AggregateUDF, AggregateUDFImpl, EmitTo, GroupsAccumulator, Signature, Volatility,
};
use datafusion_functions_aggregate::{count, min_max};
use thalweg_functions::user::UserFunctions;
use thalweg_operators::sql::grouped_function::GroupedFunction;
use thalweg_plan::spec::AggregateCall;

use crate::error::{BatchError, external};
use distinct::Distinct;

/// The function of a call, and whether DataFusion does its DISTINCT.
pub(crate) fn udaf(
    call: &AggregateCall,
    functions: &Arc<UserFunctions>,
) -> Result<(Arc<AggregateUDF>, bool), BatchError> {
    let has_other_order = call
        .arg_types
        .first()
        .is_some_and(|arg| arg.to_arrow().is_floating());
    match call.function.as_str() {
        "COUNT" if call.args.len() <= 1 => Ok((count::count_udaf(), call.distinct)),
        // Distinct or not is the same.
        "MIN" if !has_other_order => Ok((min_max::min_udaf(), false)),
        "MAX" if !has_other_order => Ok((min_max::max_udaf(), false)),
        _ => {
            let function = FlinkFunction::new(call, functions)?;
            Ok((Arc::new(AggregateUDF::new_from_impl(function)), false))
        }
    }
}

/// A call.
pub(crate) struct FlinkFunction {
    call: AggregateCall,
    functions: Arc<UserFunctions>,
    signature: Signature,
    state: Vec<Field>,
}

impl FlinkFunction {
    /// Of a call; one that can't be computed is refused by name.
    pub(crate) fn new(call: &AggregateCall, functions: &Arc<UserFunctions>) -> Result<Self, BatchError> {
        let made = GroupedFunction::new(call, functions);
        let made = made.map_err(BatchError::Function)?;
        let state = match call.distinct {
            true => vec![Distinct::field(&arg_types(call))],
            false => made.fields(),
        };
        Ok(Self {
            call: call.clone(),
            functions: Arc::clone(functions),
            signature: Signature::variadic_any(Volatility::Immutable),
            state,
        })
    }

    fn grouped(&self) -> Result<GroupedFunction> {
        GroupedFunction::new(&self.call, &self.functions).map_err(external)
    }
}

fn arg_types(call: &AggregateCall) -> Vec<DataType> {
    call.arg_types
        .iter()
        .map(thalweg_plan::DataType::to_arrow)
        .collect()
}

impl PartialEq for FlinkFunction {
    fn eq(&self, other: &Self) -> bool {
        self.call == other.call && Arc::ptr_eq(&self.functions, &other.functions)
    }
}

impl Eq for FlinkFunction {}

impl Hash for FlinkFunction {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.call.function.hash(state);
        self.call.args.hash(state);
        self.call.name.hash(state);
    }
}

impl fmt::Debug for FlinkFunction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("FlinkFunction").field(&self.call).finish()
    }
}

impl AggregateUDFImpl for FlinkFunction {
    #[allow(clippy::misnamed_getters, reason = "the call's name is its column's")]
    fn name(&self) -> &str {
        &self.call.function
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _arg_types: &[DataType]) -> Result<DataType> {
        Ok(self.call.data_type.to_arrow())
    }

    fn order_sensitivity(&self) -> AggregateOrderSensitivity {
        AggregateOrderSensitivity::Insensitive
    }

    fn state_fields(&self, args: StateFieldsArgs) -> Result<Vec<FieldRef>> {
        let named = |field: &Field| {
            let name = format!("{}[{}]", args.name, field.name());
            Arc::new(Field::new(name, field.data_type().clone(), true))
        };
        Ok(self.state.iter().map(named).collect())
    }

    fn accumulator(&self, _args: AccumulatorArgs) -> Result<Box<dyn Accumulator>> {
        Ok(Box::new(Frame {
            function: self.call.function.clone(),
            groups: Mutex::new(Groups::new(self)?),
        }))
    }

    fn groups_accumulator_supported(&self, _args: AccumulatorArgs) -> bool {
        true
    }

    fn create_groups_accumulator(&self, _args: AccumulatorArgs) -> Result<Box<dyn GroupsAccumulator>> {
        Ok(Box::new(Groups::new(self)?))
    }
}

/// The accumulators of a call.
struct Groups {
    function: GroupedFunction,
    /// How many arguments it has: DataFusion gives one more to functions without.
    args: usize,
    distinct: Option<Distinct>,
    count: usize,
}

impl Groups {
    fn new(function: &FlinkFunction) -> Result<Self> {
        let distinct = function.call.distinct;
        let distinct = distinct.then(|| Distinct::new(&arg_types(&function.call)));
        Ok(Self {
            function: function.grouped()?,
            args: function.call.args.len(),
            distinct: distinct.transpose()?,
            count: 0,
        })
    }

    fn resize(&mut self, count: usize) {
        self.count = self.count.max(count);
        self.function.resize(self.count);
    }

    fn update(
        &mut self,
        values: &[ArrayRef],
        groups: &[u32],
        signs: Option<&[i8]>,
    ) -> Result<(), ArrowError> {
        let values = values.get(..self.args).unwrap_or(values);
        match &mut self.distinct {
            Some(distinct) => {
                let signs = distinct.first_seen(values, groups, signs)?;
                self.function.update(groups, Some(&signs), values)
            }
            None => self.function.update(groups, signs, values),
        }
    }

    /// Lets the first `gone` groups go; the others move up.
    fn shift(&mut self, gone: usize) -> Result<(), ArrowError> {
        let all = slots(0..self.count);
        let rest = self.function.gather(&slots(gone..self.count))?;
        self.function.clear(&all);
        self.count -= gone;
        self.function.merge(&slots(0..self.count), &rest)?;
        if let Some(distinct) = &mut self.distinct {
            distinct.shift(gone);
        }
        Ok(())
    }

    fn emitted(&self, emit_to: EmitTo) -> usize {
        match emit_to {
            EmitTo::All => self.count,
            EmitTo::First(count) => count.min(self.count),
        }
    }
}

fn slots(range: std::ops::Range<usize>) -> Vec<u32> {
    range.map(|slot| slot as u32).collect()
}

fn numbers(groups: &[usize]) -> Vec<u32> {
    groups.iter().map(|group| *group as u32).collect()
}

/// Of rows under a filter: 1 if they count.
fn signs(filter: Option<&BooleanArray>) -> Option<Vec<i8>> {
    let filter = filter?;
    let counts = |row: usize| i8::from(filter.is_valid(row) && filter.value(row));
    Some((0..filter.len()).map(counts).collect())
}

impl GroupsAccumulator for Groups {
    fn update_batch(
        &mut self,
        values: &[ArrayRef],
        group_indices: &[usize],
        opt_filter: Option<&BooleanArray>,
        total_num_groups: usize,
    ) -> Result<()> {
        self.resize(total_num_groups);
        let signs = signs(opt_filter);
        Ok(self.update(values, &numbers(group_indices), signs.as_deref())?)
    }

    fn evaluate(&mut self, emit_to: EmitTo) -> Result<ArrayRef> {
        let emitted = self.emitted(emit_to);
        let results = self.function.evaluate(&slots(0..emitted))?;
        self.shift(emitted)?;
        Ok(results)
    }

    fn state(&mut self, emit_to: EmitTo) -> Result<Vec<ArrayRef>> {
        let emitted = self.emitted(emit_to);
        let parts = match &self.distinct {
            Some(distinct) => vec![distinct.lists(emitted)?],
            None => self.function.gather(&slots(0..emitted))?,
        };
        self.shift(emitted)?;
        Ok(parts)
    }

    fn merge_batch(
        &mut self,
        values: &[ArrayRef],
        group_indices: &[usize],
        total_num_groups: usize,
    ) -> Result<()> {
        self.resize(total_num_groups);
        let groups = numbers(group_indices);
        if self.distinct.is_none() {
            return Ok(self.function.merge(&groups, values)?);
        }
        let (groups, values) = distinct::flattened(values, &groups)?;
        Ok(self.update(&values, &groups, None)?)
    }

    fn convert_to_state(
        &self,
        _values: &[ArrayRef],
        _opt_filter: Option<&BooleanArray>,
    ) -> Result<Vec<ArrayRef>> {
        datafusion_common::not_impl_err!("partial aggregation is never skipped")
    }

    fn size(&self) -> usize {
        self.function.memory_size() + self.distinct.as_ref().map_or(0, Distinct::memory_size)
    }
}

/// The accumulator of a frame of rows: one group.
struct Frame {
    function: String,
    groups: Mutex<Groups>,
}

impl Frame {
    fn groups(&mut self) -> &mut Groups {
        self.groups.get_mut().unwrap_or_else(PoisonError::into_inner)
    }

    fn fold(&mut self, values: &[ArrayRef], sign: i8) -> Result<()> {
        let rows = values.first().map_or(0, |values| values.len());
        let groups = self.groups();
        groups.resize(1);
        Ok(groups.update(values, &vec![0; rows], Some(&vec![sign; rows]))?)
    }
}

impl Accumulator for Frame {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        self.fold(values, 1)
    }

    fn retract_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        self.fold(values, -1)
    }

    fn supports_retract_batch(&self) -> bool {
        true
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        let groups = self.groups();
        groups.resize(1);
        ScalarValue::try_from_array(&groups.function.evaluate(&[0])?, 0)
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        let groups = self.groups();
        groups.resize(1);
        let parts = match &groups.distinct {
            Some(distinct) => vec![distinct.lists(1)?],
            None => groups.function.gather(&[0])?,
        };
        parts
            .iter()
            .map(|part| ScalarValue::try_from_array(part, 0))
            .collect()
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        let rows = states.first().map_or(0, |states| states.len());
        self.groups().merge_batch(states, &vec![0; rows], 1)
    }

    fn size(&self) -> usize {
        let groups = self.groups.lock().unwrap_or_else(PoisonError::into_inner);
        groups.size()
    }
}

impl fmt::Debug for Frame {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Frame").field(&self.function).finish()
    }
}
