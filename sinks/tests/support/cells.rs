//! Cells of a batch as text, written without regard to how the batch was made.

use std::collections::BTreeMap;

use arrow_array::cast::AsArray;
use arrow_array::types::{Int32Type, Int64Type, TimestampNanosecondType, UInt32Type};
use arrow_array::{Array, RecordBatch};
use arrow_schema::{DataType, TimeUnit};

/// Text of a missing value.
pub const NULL: &str = "∅";

/// The rows of a batch: text by column name.
pub fn rows_of(batch: &RecordBatch) -> Vec<BTreeMap<String, String>> {
    let schema = batch.schema();
    let names = schema.fields().iter().map(|field| field.name().clone());
    let columns: Vec<_> = names.zip(batch.columns()).collect();
    let row = |i| columns.iter().map(|(name, column)| (name.clone(), cell(column.as_ref(), i))).collect();
    (0..batch.num_rows()).map(row).collect()
}

fn cell(array: &dyn Array, row: usize) -> String {
    if array.is_null(row) {
        return NULL.into();
    }
    match array.data_type() {
        DataType::Utf8 => array.as_string::<i32>().value(row).into(),
        DataType::Int32 => array.as_primitive::<Int32Type>().value(row).to_string(),
        DataType::Int64 => array.as_primitive::<Int64Type>().value(row).to_string(),
        DataType::UInt32 => array.as_primitive::<UInt32Type>().value(row).to_string(),
        DataType::Timestamp(TimeUnit::Nanosecond, Some(zone)) if &**zone == "UTC" => {
            array.as_primitive::<TimestampNanosecondType>().value(row).to_string()
        }
        DataType::Struct(_) => {
            let array = array.as_struct();
            let fields: Vec<_> = array.columns().iter().map(|column| cell(column.as_ref(), row)).collect();
            format!("({})", fields.join(", "))
        }
        DataType::List(_) => all(array.as_list::<i32>().value(row).as_ref()),
        DataType::Map(_, _) => all(&array.as_map().value(row)),
        other => panic!("unexpected type {other}"),
    }
}

fn all(array: &dyn Array) -> String {
    let cells: Vec<_> = (0..array.len()).map(|i| cell(array, i)).collect();
    format!("[{}]", cells.join(", "))
}
