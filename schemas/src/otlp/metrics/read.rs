//! Reading metrics requests back.

use super::write::NO_RECORDED_VALUE;
use super::{Exemplar, Kind, Labels, Point, Temporality, Value};
use crate::otlp::validate::Malformed;
use crate::wire::{Found, Message, Reader, Reason};

/// The series that a point belongs to.
#[derive(Clone, Copy, Debug)]
pub struct Series<'a> {
    /// Bytes of the `Resource` message.
    pub resource: &'a [u8],
    /// Name of the instrumentation scope.
    pub scope: &'a str,
    /// Name of the metric.
    pub metric: &'a str,
    /// Its unit; may be empty.
    pub unit: &'a str,
    /// What its points are.
    pub kind: Kind,
    /// The point's attributes.
    pub labels: &'a Labels,
}

/// Hands every point of a request to `take`, in order.
///
/// Summaries, sums that may fall, points of unknown temporality and negative observations of exponential histograms
/// are passed over. Points before a malformed byte have been handed on when the error comes.
///
/// # Errors
/// [`Malformed`] where the bytes are no protobuf message of that type.
pub fn read(request: &[u8], mut take: impl FnMut(&Series<'_>, &Point<'_>)) -> Result<(), Malformed> {
    let mut message = Message::of_record("ExportMetricsServiceRequest", request);
    while let Some(field) = message.next()? {
        if field.number == 1 {
            resource_metrics(field.message("ResourceMetrics")?, &mut take)?;
        }
    }
    Ok(())
}

type Take<'t> = &'t mut dyn FnMut(&Series<'_>, &Point<'_>);

fn resource_metrics(message: Message<'_>, take: Take<'_>) -> Result<(), Malformed> {
    let mut resource = &[][..];
    let mut first = message;
    while let Some(field) = first.next()? {
        if field.number == 1 {
            resource = field.bytes()?;
        }
    }
    let mut second = message;
    while let Some(field) = second.next()? {
        if field.number == 2 {
            scope_metrics(field.message("ScopeMetrics")?, resource, take)?;
        }
    }
    Ok(())
}

fn scope_metrics<'a>(message: Message<'a>, resource: &'a [u8], take: Take<'_>) -> Result<(), Malformed> {
    let mut scope = "";
    let mut first = message;
    while let Some(field) = first.next()? {
        if field.number == 1 {
            let mut inner = field.message("InstrumentationScope")?;
            while let Some(field) = inner.next()? {
                if field.number == 1 {
                    scope = field.text()?;
                }
            }
        }
    }
    let mut second = message;
    while let Some(field) = second.next()? {
        if field.number == 2 {
            metric(field.message("Metric")?, (resource, scope), take)?;
        }
    }
    Ok(())
}

fn metric<'a>(message: Message<'a>, (resource, scope): (&'a [u8], &'a str), take: Take<'_>) -> Result<(), Malformed> {
    let (mut name, mut unit, mut data) = ("", "", None);
    let mut fields = message;
    while let Some(field) = fields.next()? {
        match field.number {
            1 => name = field.text()?,
            3 => unit = field.text()?,
            5 | 7 | 9 | 10 => data = Some((field.number, field.message("Metric.data")?)),
            _ => {}
        }
    }
    let Some((number, data)) = data else { return Ok(()) };
    let Some(kind) = kind_of(number, data)? else { return Ok(()) };
    let mut points = data;
    let mut scratch = Scratch::default();
    while let Some(field) = points.next()? {
        if field.number != 1 {
            continue;
        }
        scratch.clear();
        let Some(read) = scratch.read(kind, field.message("DataPoint")?)? else { continue };
        let labels = scratch.labels();
        take(&Series { resource, scope, metric: name, unit, kind, labels: &labels }, &scratch.point(read));
    }
    Ok(())
}

fn kind_of(number: u32, data: Message<'_>) -> Result<Option<Kind>, Malformed> {
    let (mut temporality, mut monotonic) = (0, false);
    let mut fields = data;
    while let Some(field) = fields.next()? {
        match field.number {
            2 => temporality = field.varint()?,
            3 => monotonic = field.varint()? != 0,
            _ => {}
        }
    }
    let temporality = match temporality {
        1 => Some(Temporality::Delta),
        2 => Some(Temporality::Cumulative),
        _ => None,
    };
    Ok(match number {
        5 => Some(Kind::Gauge),
        7 => temporality.filter(|_| monotonic).map(Kind::Sum),
        9 => temporality.map(Kind::Histogram),
        _ => temporality.map(Kind::Exponential),
    })
}

/// What a point is put together from.
#[derive(Debug, Default)]
struct Scratch<'a> {
    attributes: Vec<&'a [u8]>,
    counts: Vec<u64>,
    bounds: Vec<f64>,
    exemplars: Vec<Exemplar>,
}

/// The plain numbers of a point.
#[derive(Clone, Copy, Debug, Default)]
struct Numbers {
    start: u64,
    time: u64,
    flags: u64,
    /// Of a sum or gauge, or the sum of a histogram.
    number: Option<f64>,
    count: Option<u64>,
    scale: i32,
    zero_count: u64,
    offset: i32,
    kind: Option<Kind>,
}

impl<'a> Scratch<'a> {
    fn clear(&mut self) {
        self.attributes.clear();
        self.counts.clear();
        self.bounds.clear();
        self.exemplars.clear();
    }

    fn labels(&self) -> Labels {
        Labels::of_messages(&self.attributes)
    }

    /// `None` for a point that the model does not cover.
    fn read(&mut self, kind: Kind, mut message: Message<'a>) -> Result<Option<Numbers>, Malformed> {
        let mut numbers = Numbers { kind: Some(kind), ..Numbers::default() };
        while let Some(field) = message.next()? {
            match (kind, field.number) {
                (_, 2) => numbers.start = field.fixed64()?,
                (_, 3) => numbers.time = field.fixed64()?,
                (Kind::Gauge | Kind::Sum(_), 4) | (Kind::Histogram(_) | Kind::Exponential(_), 5) => {
                    numbers.number = Some(f64::from_bits(field.fixed64()?));
                }
                (Kind::Gauge | Kind::Sum(_), 6) | (Kind::Histogram(_) | Kind::Exponential(_), 4) => {
                    numbers.count = Some(field.fixed64()?);
                }
                (Kind::Gauge | Kind::Sum(_), 7) | (Kind::Histogram(_), 9) | (Kind::Exponential(_), 1) => {
                    self.attributes.push(field.bytes()?);
                }
                (Kind::Gauge | Kind::Sum(_), 8) | (Kind::Histogram(_) | Kind::Exponential(_), 10) => {
                    numbers.flags = field.varint()?;
                }
                (Kind::Gauge | Kind::Sum(_), 5) | (Kind::Histogram(_), 8) | (Kind::Exponential(_), 11) => {
                    self.exemplars.push(exemplar(field.message("Exemplar")?)?);
                }
                (Kind::Histogram(_), 6) => self.counts.extend(fixed64s(&field)?),
                (Kind::Histogram(_), 7) => self.bounds.extend(fixed64s(&field)?.map(f64::from_bits)),
                (Kind::Exponential(_), 6) => numbers.scale = unzigzag(field.varint()?),
                (Kind::Exponential(_), 7) => numbers.zero_count = field.fixed64()?,
                (Kind::Exponential(_), 8) => self.buckets(&mut numbers, field.message("Buckets")?)?,
                (Kind::Exponential(_), 9) if !field.bytes()?.is_empty() => return Ok(None),
                _ => {}
            }
        }
        Ok(Some(numbers))
    }

    fn buckets(&mut self, numbers: &mut Numbers, mut message: Message<'a>) -> Result<(), Malformed> {
        while let Some(field) = message.next()? {
            match field.number {
                1 => numbers.offset = unzigzag(field.varint()?),
                2 => {
                    let mut packed = Reader::new(field.bytes()?);
                    while !packed.is_empty() {
                        self.counts.push(packed.varint().map_err(|reason| field.fault(reason))?);
                    }
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn point(&self, numbers: Numbers) -> Point<'_> {
        let (counts, bounds) = (&self.counts[..], &self.bounds[..]);
        let sum = numbers.number.unwrap_or_default();
        let value = match numbers.kind {
            Some(Kind::Gauge) => numbers.number.or(numbers.count.map(|n| n.cast_signed() as f64)).map(Value::Number),
            // Counts of others may be doubles; what is below zero counts nothing.
            Some(Kind::Sum(_)) => {
                let count = numbers.count.map(|count| u64::try_from(count.cast_signed()).unwrap_or_default());
                count.or(numbers.number.map(|number| number as u64)).map(Value::Count)
            }
            Some(Kind::Histogram(_)) if counts.len() == bounds.len() + 1 => {
                Some(Value::Histogram { sum, bounds, counts })
            }
            Some(Kind::Exponential(_)) if numbers.count.is_some() => {
                let Numbers { scale, zero_count, offset, .. } = numbers;
                Some(Value::Exponential { sum, scale, zero_count, offset, counts })
            }
            _ => None,
        };
        let value = value.filter(|_| numbers.flags & NO_RECORDED_VALUE == 0);
        Point {
            start_time_unix_nano: numbers.start,
            time_unix_nano: numbers.time,
            ended_bounds: if value.is_none() { bounds } else { &[] },
            value,
            exemplars: &self.exemplars,
        }
    }
}

fn exemplar(mut message: Message<'_>) -> Result<Exemplar, Malformed> {
    let mut exemplar = Exemplar::default();
    while let Some(field) = message.next()? {
        match field.number {
            2 => exemplar.time_unix_nano = field.fixed64()?,
            3 => exemplar.value = f64::from_bits(field.fixed64()?),
            6 => exemplar.value = field.fixed64()?.cast_signed() as f64,
            4 => exemplar.span_id = field.bytes()?.try_into().unwrap_or_default(),
            5 => exemplar.trace_id = field.bytes()?.try_into().unwrap_or_default(),
            _ => {}
        }
    }
    Ok(exemplar)
}

fn fixed64s<'a>(field: &Found<'a>) -> Result<impl Iterator<Item = u64> + use<'a>, Malformed> {
    let (words, rest) = field.bytes()?.as_chunks::<8>();
    if !rest.is_empty() {
        return Err(field.fault(Reason::Truncated));
    }
    Ok(words.iter().map(|word| u64::from_le_bytes(*word)))
}

fn unzigzag(number: u64) -> i32 {
    let number = number as u32;
    (number >> 1).cast_signed() ^ -((number & 1).cast_signed())
}
