//! The folders of a table: `cluster_key=…/date=YYYY-MM-DD/hour=HH`, and what each says about the rows below it.

use arrow::array::{ArrayRef, new_null_array};
use arrow::compute::kernels::cast_utils::Parser;
use arrow::datatypes::Date32Type;
use arrow_schema::{DataType, Field, TimeUnit};
use datafusion::common::ScalarValue;

use crate::store::decode_percent;

/// Nanoseconds of an hour.
const HOUR_NANOS: i64 = 3_600_000_000_000;
/// Nanoseconds of a day.
const DAY_NANOS: i64 = 24 * HOUR_NANOS;
/// What Hive writes for a null or an empty value.
const HIVE_NULL: &str = "__HIVE_DEFAULT_PARTITION__";
/// Stands unencoded only where a name was too long for a path: before the checksum of what was cut off.
const CUT: char = '~';

/// The levels of folders below a table, outermost first; each is a column of the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Level {
    Cluster,
    Date,
    Hour,
}

impl Level {
    pub(crate) const ALL: [Self; 3] = [Self::Cluster, Self::Date, Self::Hour];
    /// Those whose values are in paths only. A cluster is in the files too, whole even where it is cut in the path.
    pub(crate) const OF_PATH: [Self; 2] = [Self::Date, Self::Hour];

    /// The key in the folder's name. That of the cluster is no column: readers that make columns of keys would
    /// find two of the name, one as it stands in the path and one as the rows have it.
    fn key(self) -> &'static str {
        match self {
            Self::Cluster => "cluster_key",
            Self::Date | Self::Hour => self.column(),
        }
    }

    /// The name of the column.
    pub(crate) fn column(self) -> &'static str {
        match self {
            Self::Cluster => "cluster",
            Self::Date => "date",
            Self::Hour => "hour",
        }
    }

    /// The level of a column.
    pub(crate) fn of(column: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|level| level.column() == column)
    }

    /// The column as SQL sees it: text, `DATE` and `INT`, as DuckDB and Spark infer them from the paths.
    pub(crate) fn field(self) -> Field {
        let data_type = match self {
            Self::Cluster => DataType::Utf8View,
            Self::Date => DataType::Date32,
            Self::Hour => DataType::Int32,
        };
        Field::new(self.column(), data_type, true)
    }
}

/// One folder: the values that its path gives, level by level.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Folder {
    cluster: Option<String>,
    /// Days since 1970-01-01.
    date: Option<i32>,
    hour: Option<i32>,
}

impl Folder {
    /// The folder `name` below this one; `None` where the name does not say what `level` needs.
    ///
    /// The cluster's name is percent-decoded, so that it is the one which its rows hold.
    pub(crate) fn enter(&self, level: Level, name: &str) -> Option<Self> {
        let (key, value) = name.split_once('=')?;
        if key != level.key() {
            return None;
        }
        let mut below = self.clone();
        match level {
            Level::Cluster if value == HIVE_NULL || value.contains(CUT) => {}
            Level::Cluster => below.cluster = Some(decode_percent(value)?),
            Level::Date => below.date = Some(parse_date(value)?),
            Level::Hour => below.hour = Some(value.parse().ok().filter(|hour| (0..24).contains(hour))?),
        }
        Some(below)
    }

    /// The value that all rows below have in a level's column; `None` where the path does not tell.
    pub(crate) fn value(&self, level: Level) -> Option<ScalarValue> {
        match level {
            Level::Cluster => self.cluster.clone().map(|name| ScalarValue::Utf8View(Some(name))),
            Level::Date => self.date.map(|day| ScalarValue::Date32(Some(day))),
            Level::Hour => self.hour.map(|hour| ScalarValue::Int32(Some(hour))),
        }
    }

    /// First and last nanosecond since the epoch that a row of this folder may have; `None` where the path
    /// does not say, or says a time that 64 bits do not hold.
    pub(crate) fn time_bounds(&self) -> Option<(i64, i64)> {
        let day = i64::from(self.date?).checked_mul(DAY_NANOS)?;
        let (first, length) = match self.hour {
            Some(hour) => (day.checked_add(i64::from(hour) * HOUR_NANOS)?, HOUR_NANOS),
            None => (day, DAY_NANOS),
        };
        Some((first, first.checked_add(length - 1)?))
    }
}

/// The values of one column for several folders, null where unknown.
pub(crate) fn column_of(
    data_type: &DataType,
    values: impl IntoIterator<Item = Option<ScalarValue>>,
) -> datafusion::common::Result<ArrayRef> {
    let null = ScalarValue::try_from(data_type)?;
    let mut values = values.into_iter().map(|value| value.unwrap_or_else(|| null.clone())).peekable();
    match values.peek() {
        None => Ok(new_null_array(data_type, 0)),
        Some(_) => ScalarValue::iter_to_array(values),
    }
}

/// Nanoseconds as a value of the time column's type; `None` for a type that is no nanosecond timestamp.
pub(crate) fn timestamp(data_type: &DataType, nanos: i64) -> Option<ScalarValue> {
    match data_type {
        DataType::Timestamp(TimeUnit::Nanosecond, zone) => {
            Some(ScalarValue::TimestampNanosecond(Some(nanos), zone.clone()))
        }
        _ => None,
    }
}

/// Days since 1970-01-01 of `YYYY-MM-DD`.
fn parse_date(text: &str) -> Option<i32> {
    let whole = text.len() == 10 && text.bytes().filter(|byte| *byte == b'-').count() == 2;
    if whole { Date32Type::parse(text) } else { None }
}

#[cfg(test)]
mod tests;
