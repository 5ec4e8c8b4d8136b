//! `jaeger.api_v2.Span` in protobuf.

use super::model::{Log, Process, Reference, Span, Tag, unknown};
use crate::encoding::Undecodable;
use crate::otlp::build::{MOST, Value};
use crate::otlp::validate::Malformed;
use crate::wire::{Found, Message, Reason};

pub(super) fn span(record: &[u8]) -> Result<Span<'_>, Undecodable> {
    let mut span = Span::default();
    let mut count = 0;
    let mut message = Message::of_record("Span", record);
    while let Some(field) = message.next()? {
        match field.number {
            1 => span.trace_id = trace_id(&field)?,
            2 => span.span_id = span_id(&field)?,
            3 => span.operation = field.text()?.into(),
            4 => span.references.push(reference(field.message("SpanRef")?)?),
            // Flags have 32 bits; what stands above them means nothing.
            5 => span.flags = field.varint()? as u32,
            6 => span.start = nanos(field.message("Timestamp")?)?,
            7 => span.duration = nanos(field.message("Duration")?)?,
            8 => span.tags.push(tag(field.message("KeyValue")?)?),
            9 => span.logs.push(log(field.message("Log")?, &mut count)?),
            10 => span.process = Some(process(field.message("Process")?, &mut count)?),
            _ => continue,
        }
        counted(&mut count)?;
    }
    Ok(span)
}

/// Bounds what a span is made of.
fn counted(count: &mut usize) -> Result<(), Undecodable> {
    *count += 1;
    if *count > MOST { Err(Undecodable::TooMany { most: MOST }) } else { Ok(()) }
}

fn process<'a>(mut message: Message<'a>, count: &mut usize) -> Result<Process<'a>, Undecodable> {
    let mut process = Process::default();
    while let Some(field) = message.next()? {
        match field.number {
            1 => process.service = field.text()?.into(),
            2 => process.tags.push(tag(field.message("KeyValue")?)?),
            _ => continue,
        }
        counted(count)?;
    }
    Ok(process)
}

fn log<'a>(mut message: Message<'a>, count: &mut usize) -> Result<Log<'a>, Undecodable> {
    let mut log = Log::default();
    while let Some(field) = message.next()? {
        match field.number {
            1 => log.time = nanos(field.message("Timestamp")?)?,
            2 => log.fields.push(tag(field.message("KeyValue")?)?),
            _ => continue,
        }
        counted(count)?;
    }
    Ok(log)
}

fn reference(mut message: Message<'_>) -> Result<Reference, Malformed> {
    let mut reference = Reference::default();
    while let Some(field) = message.next()? {
        match field.number {
            1 => reference.trace_id = trace_id(&field)?,
            2 => reference.span_id = span_id(&field)?,
            3 => reference.follows = field.varint()? == 1,
            _ => {}
        }
    }
    Ok(reference)
}

fn tag(mut message: Message<'_>) -> Result<Tag<'_>, Malformed> {
    let (mut key, mut kind) = ("", 0);
    let (mut text, mut flag, mut whole, mut real, mut bytes) = ("", false, 0, 0, &[][..]);
    while let Some(field) = message.next()? {
        match field.number {
            1 => key = field.text()?,
            2 => kind = field.varint()?,
            3 => text = field.text()?,
            4 => flag = field.varint()? != 0,
            5 => whole = field.varint()?.cast_signed(),
            6 => real = field.fixed64()?,
            7 => bytes = field.bytes()?,
            _ => {}
        }
    }
    let value = match kind {
        0 => Value::Str(text.into()),
        1 => Value::Bool(flag),
        2 => Value::Int(whole),
        3 => Value::Double(f64::from_bits(real)),
        4 => Value::Bytes(bytes.into()),
        other => unknown(other.cast_signed()),
    };
    Ok(Tag { key: key.into(), value })
}

/// The nanoseconds of a `Timestamp` or a `Duration`.
fn nanos(mut message: Message<'_>) -> Result<i128, Malformed> {
    let (mut seconds, mut nanos) = (0, 0);
    while let Some(field) = message.next()? {
        match field.number {
            1 => seconds = field.varint()?.cast_signed(),
            2 => nanos = field.varint()?.cast_signed(),
            _ => {}
        }
    }
    Ok(i128::from(seconds) * 1_000_000_000 + i128::from(nanos))
}

/// 16 bytes, or 8 of a trace id of 64 bits; nothing is zeros.
fn trace_id(field: &Found<'_>) -> Result<[u8; 16], Malformed> {
    super::model::trace_id(field.bytes()?)
        .map_err(|len| field.fault(Reason::Length { field: field.number, len, expected: "16 or 8" }))
}

fn span_id(field: &Found<'_>) -> Result<[u8; 8], Malformed> {
    super::model::span_id(field.bytes()?)
        .map_err(|len| field.fault(Reason::Length { field: field.number, len, expected: "8" }))
}
