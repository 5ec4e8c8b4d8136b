//! `zipkin.proto3.ListOfSpans`.

use std::borrow::Cow;
use std::net::{Ipv4Addr, Ipv6Addr};

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
    while let Some(field) = message.next()? {
        match field.number {
            1 => span.trace_id = trace_id(&field)?,
            2 => span.parent = id(&field)?,
            3 => span.id = id(&field)?,
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
    Ok(span)
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
            2 => v4 = bytes::<4>(&field, "4")?.map(|bytes| address(Ipv4Addr::from(bytes).into())),
            3 => v6 = bytes::<16>(&field, "16")?.map(|bytes| address(Ipv6Addr::from(bytes).into())),
            // Ports have 16 bits.
            4 => endpoint.port = field.varint()? as u16,
            _ => {}
        }
    }
    endpoint.address = Cow::Owned(v6.or(v4).unwrap_or_default());
    Ok(endpoint)
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
    Ok(bytes(field, "8")?.unwrap_or_default())
}

/// So many bytes, or none at all.
fn bytes<const N: usize>(field: &Found<'_>, expected: &'static str) -> Result<Option<[u8; N]>, Malformed> {
    let bytes = field.bytes()?;
    match <[u8; N]>::try_from(bytes) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(_) if bytes.is_empty() => Ok(None),
        Err(_) => Err(field.fault(Reason::Length { field: field.number, len: bytes.len(), expected })),
    }
}
