//! Which folders of a table can hold rows that a query's predicates accept.
//!
//! A row lies in the folder of its own cluster, date and hour, so the path bounds the row's time. Whatever the
//! predicates say about these columns and about the table's time is applied to the paths, at each level of folders
//! before the one below is listed. A folder is skipped only where no row of it can match; predicates that cannot be
//! decided from a path keep it.

use std::collections::HashSet;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, BooleanArray, RecordBatch};
use arrow_schema::{Schema, SchemaRef};
use datafusion::catalog::Session;
use datafusion::common::cast::as_boolean_array;
use datafusion::common::pruning::PruningStatistics;
use datafusion::common::{Column, DFSchema, Result, ScalarValue};
use datafusion::logical_expr::Expr;
use datafusion::logical_expr::utils::split_conjunction;
use datafusion::physical_expr::utils::{collect_columns, reassign_expr_columns};
use datafusion::physical_expr::{PhysicalExpr, conjunction};
use datafusion::physical_optimizer::pruning::{PruningPredicate, PruningPredicateBuilder};

use crate::layout::{Folder, Level, column_of, timestamp};

/// The predicates of one scan, ready to be applied to folders.
pub(crate) struct Pruner {
    /// Predicates over columns of the path alone: decided exactly, whatever functions they call.
    exact: Vec<(Vec<Level>, Arc<dyn PhysicalExpr>)>,
    /// All predicates, as bounds on minimum and maximum.
    bounds: Option<PruningPredicate>,
    schema: SchemaRef,
    /// The column that date and hour are taken from.
    time: Arc<str>,
}

impl Pruner {
    /// `filters` are conjuncts over the table's columns; `time` is the column that places a row in its hour.
    pub(crate) fn new(state: &dyn Session, schema: &SchemaRef, time: &Arc<str>, filters: &[Expr]) -> Result<Self> {
        let df_schema = DFSchema::try_from(Arc::clone(schema))?;
        let mut all = Vec::new();
        for filter in filters.iter().flat_map(split_conjunction) {
            all.push(state.create_physical_expr(filter.clone(), &df_schema)?);
        }
        let exact = all.iter().filter_map(|expr| {
            let columns = collect_columns(expr);
            let levels: Option<Vec<Level>> = columns.iter().map(|column| Level::of(column.name())).collect();
            Some((levels.filter(|levels| !levels.is_empty())?, Arc::clone(expr)))
        });
        let exact = exact.collect();
        let bounds = match all.is_empty() {
            true => None,
            false => {
                let builder = PruningPredicateBuilder::new().with_file_schema(Arc::clone(schema));
                Some(builder.try_build(conjunction(all))?)
            }
        };
        let bounds = bounds.filter(|predicate| !predicate.always_true());
        Ok(Self { exact, bounds, schema: Arc::clone(schema), time: Arc::clone(time) })
    }

    /// For each folder of a level whether it can hold matching rows.
    pub(crate) fn keep(&self, level: Level, folders: &[Folder]) -> Result<Vec<bool>> {
        if folders.is_empty() {
            return Ok(Vec::new());
        }
        let mut keep = match &self.bounds {
            Some(predicate) => predicate.prune(&Bounds { folders, schema: &self.schema, time: &self.time })?,
            None => vec![true; folders.len()],
        };
        for (levels, expr) in self.exact.iter().filter(|(levels, _)| levels.iter().all(|of| *of <= level)) {
            // What fails on a path, as a cast may, is left to the rows.
            let Ok(accepted) = evaluate(expr, folders) else { continue };
            for (at, folder) in folders.iter().enumerate() {
                let told = levels.iter().all(|level| folder.value(*level).is_some());
                keep[at] &= !told || (accepted.is_valid(at) && accepted.value(at));
            }
        }
        Ok(keep)
    }
}

/// Evaluates a predicate over columns of the path for each folder, with null for what a path does not tell.
fn evaluate(expr: &Arc<dyn PhysicalExpr>, folders: &[Folder]) -> Result<BooleanArray> {
    let schema = Arc::new(Schema::new(Level::ALL.map(Level::field).to_vec()));
    let arrays = Level::ALL
        .iter()
        .map(|level| column_of(level.field().data_type(), folders.iter().map(|folder| folder.value(*level))));
    let batch = RecordBatch::try_new(Arc::clone(&schema), arrays.collect::<Result<_>>()?)?;
    let expr = reassign_expr_columns(Arc::clone(expr), &schema)?;
    let accepted = expr.evaluate(&batch)?.into_array(folders.len())?;
    Ok(as_boolean_array(&accepted)?.clone())
}

/// What the paths of some folders say about minimum and maximum of each column.
struct Bounds<'a> {
    folders: &'a [Folder],
    schema: &'a SchemaRef,
    time: &'a str,
}

impl Bounds<'_> {
    fn column(&self, column: &Column, last: bool) -> Option<ArrayRef> {
        let data_type = self.schema.field_with_name(column.name()).ok()?.data_type();
        let value = |folder: &Folder| {
            if column.name() == self.time {
                let (first_nanos, last_nanos) = folder.time_bounds()?;
                return timestamp(data_type, if last { last_nanos } else { first_nanos });
            }
            folder.value(Level::of(column.name())?)
        };
        let values: Vec<_> = self.folders.iter().map(value).collect();
        if values.iter().all(Option::is_none) {
            return None;
        }
        column_of(data_type, values).ok()
    }
}

impl PruningStatistics for Bounds<'_> {
    fn min_values(&self, column: &Column) -> Option<ArrayRef> {
        self.column(column, false)
    }

    fn max_values(&self, column: &Column) -> Option<ArrayRef> {
        self.column(column, true)
    }

    fn num_containers(&self) -> usize {
        self.folders.len()
    }

    fn null_counts(&self, _column: &Column) -> Option<ArrayRef> {
        None
    }

    fn row_counts(&self) -> Option<ArrayRef> {
        None
    }

    fn contained(&self, _column: &Column, _values: &HashSet<ScalarValue>) -> Option<BooleanArray> {
        None
    }
}
