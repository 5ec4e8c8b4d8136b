//! `zipkin.proto3.ListOfSpans`.

use std::borrow::Cow;
use std::net::IpAddr;

use bytes::Bytes;

use super::model::{Endpoint, Span, address};
use super::translate;
use crate::encoding::Undecodable;
use crate::otlp::build::{Gather, Kind, MOST};
use crate::otlp::validate::Malformed;
use crate::wire::{Found, Message, Reason};

pub(super) fn request(record: &[u8]) -> Result<Bytes, Undecodable> {
    let mut gather = Gather::default();
    let mut list = Message::of_record("ListOfSpans", record);
    while let Some(field) = list.next()? {
        if field.number == 1 {
            translate::span(span(field.message("Span")?)?, &mut gather);
        }
    }
    Ok(gather.finish())
}

fn span(mut message: Message<'_>) -> Result<Span<'_>, Undecodable> {
    let mut span = Span::default();
    let mut missing = [Some((1, "16 or 8")), Some((3, "8"))];
    while let Some(field) = message.next()? {
        match field.number {
            1 => (span.trace_id, missing[0]) = (trace_id(&field)?, missing[0].filter(|_| is_empty(&field))),
            2 => span.parent = id(&field)?,
            3 => (span.id, missing[1]) = (id(&field)?, missing[1].filter(|_| is_empty(&field))),
            4 => span.kind = kind(field.varint()?),
            5 => span.name = field.text()?.into(),
            6 => span.timestamp = field.fixed64()?,
            7 => span.duration = field.varint()?,
            8 => span.local = endpoint(field.message("Endpoint")?)?,
            9 => span.remote = endpoint(field.message("Endpoint")?)?,
            10 => span.annotations.push(annotation(field.message("Annotation")?)?),
            11 => span.tags.push(tag(field.message("TagsEntry")?)?),
            12 => span.debug = field.varint()? != 0,
            13 => span.shared = field.varint()? != 0,
            _ => {}
        }
        if span.annotations.len() + span.tags.len() > MOST {
            return Err(Undecodable::TooMany { most: MOST });
        }
    }
    // At once: two bytes for a span would become a hundred.
    match missing.into_iter().flatten().next() {
        Some((field, expected)) => Err(message.fault(Reason::Length { field, len: 0, expected }).into()),
        None => Ok(span),
    }
}

fn is_empty(field: &Found<'_>) -> bool {
    field.bytes().is_ok_and(<[u8]>::is_empty)
}

const fn kind(number: u64) -> Kind {
    match number {
        1 => Kind::Client,
        2 => Kind::Server,
        3 => Kind::Producer,
        4 => Kind::Consumer,
        _ => Kind::Unspecified,
    }
}

fn endpoint(mut message: Message<'_>) -> Result<Endpoint<'_>, Malformed> {
    let mut endpoint = Endpoint::default();
    let (mut v4, mut v6) = (None, None);
    while let Some(field) = message.next()? {
        match field.number {
            1 => endpoint.service = field.text()?.into(),
            2 => v4 = ip(&field)?,
            3 => v6 = ip(&field)?,
            // Ports have 16 bits.
            4 => endpoint.port = field.varint()? as u16,
            _ => {}
        }
    }
    endpoint.address = v6.or(v4).map(address).unwrap_or_default().into();
    Ok(endpoint)
}

/// An address of either version, in either field: Go's type for addresses writes those of version 4 in 16 bytes too.
fn ip(field: &Found<'_>) -> Result<Option<IpAddr>, Malformed> {
    let bytes = field.bytes()?;
    let v4 = <[u8; 4]>::try_from(bytes).map(IpAddr::from);
    match v4.or_else(|_| <[u8; 16]>::try_from(bytes).map(IpAddr::from)) {
        Ok(address) => Ok(Some(address)),
        Err(_) if bytes.is_empty() => Ok(None),
        Err(_) => Err(field.fault(Reason::Length { field: field.number, len: bytes.len(), expected: "4 or 16" })),
    }
}

fn annotation(mut message: Message<'_>) -> Result<(u64, Cow<'_, str>), Malformed> {
    let (mut time, mut text) = (0, "");
    while let Some(field) = message.next()? {
        match field.number {
            1 => time = field.fixed64()?,
            2 => text = field.text()?,
            _ => {}
        }
    }
    Ok((time, text.into()))
}

fn tag<'a>(mut message: Message<'a>) -> Result<(Cow<'a, str>, Cow<'a, str>), Malformed> {
    let (mut key, mut value) = ("", "");
    while let Some(field) = message.next()? {
        match field.number {
            1 => key = field.text()?,
            2 => value = field.text()?,
            _ => {}
        }
    }
    Ok((key.into(), value.into()))
}

/// 16 bytes, or 8 of a trace id of 64 bits; nothing is zeros.
fn trace_id(field: &Found<'_>) -> Result<[u8; 16], Malformed> {
    let id = field.bytes()?;
    let mut whole = [0; 16];
    match id.len() {
        0 => {}
        8 => whole[8..].copy_from_slice(id),
        16 => whole.copy_from_slice(id),
        len => return Err(field.fault(Reason::Length { field: field.number, len, expected: "16 or 8" })),
    }
    Ok(whole)
}

fn id(field: &Found<'_>) -> Result<[u8; 8], Malformed> {
    let bytes = field.bytes()?;
    if bytes.is_empty() {
        return Ok([0; 8]);
    }
    let wrong = |_| field.fault(Reason::Length { field: field.number, len: bytes.len(), expected: "8" });
    bytes.try_into().map_err(wrong)
}
