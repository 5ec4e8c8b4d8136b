//! Limits of counts: attributes, events and links.
//!
//! Requests within the limits, nearly all, are only looked at. An entry of a list takes two bytes at least: what is
//! too short for one entry too many is not even counted. Otherwise the request is copied without the items at fault.

use std::convert::Infallible;

use afflux_runtime::Signal;
use afflux_schemas::wire::{Fields, LEN, key, put_message_field};

/// Field number of the resource blocks in a request.
const BLOCKS: u32 = 1;
/// Field number of the resource or scope in its block.
const HEAD: u32 = 1;
/// Field number of the scopes in a resource block, and of the items in a scope.
const CHILDREN: u32 = 2;
/// Fewest bytes of an entry: key and length.
const ENTRY: usize = 2;
/// Most lists of an owner.
const LISTS: usize = 3;

/// The most that one message may have of each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Most {
    pub(super) attributes: usize,
    pub(super) events: usize,
    pub(super) links: usize,
}

/// What a message has too much of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{owner} has over {most} {what}, the limit of this receiver")]
pub(super) struct Excess {
    owner: &'static str,
    what: &'static str,
    most: usize,
}

/// Looks for the first excess in a valid and canonical request.
pub(super) fn find(request: &[u8], signal: Signal, most: &Most) -> Option<Excess> {
    let mut blocks = Fields::new(request).filter(|field| field.key == key(BLOCKS, LEN));
    blocks.find_map(|block| envelope(signal).find(block.value, most))
}

/// Copies such a request without the items over a limit, and without those whose resource or scope is; gives the
/// number of items left out too. The copy is no longer than the request.
pub(super) fn remove(request: &[u8], signal: Signal, most: &Most) -> (Vec<u8>, u64) {
    let mut kept = Vec::with_capacity(request.len());
    let mut rejected = 0;
    for field in Fields::new(request) {
        if field.key == key(BLOCKS, LEN) {
            nested(&mut kept, BLOCKS, |out| rejected += envelope(signal).copy(field.value, most, out));
        } else {
            kept.extend_from_slice(field.raw);
        }
    }
    (kept, rejected)
}

/// Writes a message field whose content `fill` appends, unless that is nothing.
fn nested(out: &mut Vec<u8>, number: u32, fill: impl FnOnce(&mut Vec<u8>)) {
    let before = out.len();
    let mut empty = true;
    let Ok(()) = put_message_field(out, number, |out| {
        let start = out.len();
        fill(out);
        empty = out.len() == start;
        Ok::<_, Infallible>(())
    });
    if empty {
        out.truncate(before);
    }
}

/// A message around others: a resource block or a scope block.
struct Envelope {
    head: Owner,
    children: Children,
}

enum Children {
    Blocks(&'static Envelope),
    Items(&'static Owner),
}

/// A message that has lists.
struct Owner {
    name: &'static str,
    lists: &'static [List],
}

/// A repeated message field whose number is limited.
struct List {
    field: u32,
    what: &'static str,
    most: fn(&Most) -> usize,
    /// What its entries have lists of.
    entries: Option<&'static Owner>,
}

const fn attributes(field: u32) -> List {
    List { field, what: "attributes", most: |most| most.attributes, entries: None }
}

static TRACES: Envelope = Envelope { head: RESOURCE, children: Children::Blocks(&SCOPE_SPANS) };
static SCOPE_SPANS: Envelope = Envelope { head: SCOPE, children: Children::Items(&SPAN) };
static LOGS: Envelope = Envelope { head: RESOURCE, children: Children::Blocks(&SCOPE_LOGS) };
static SCOPE_LOGS: Envelope = Envelope { head: SCOPE, children: Children::Items(&LOG_RECORD) };

const RESOURCE: Owner = Owner { name: "a resource", lists: &[attributes(1)] };
const SCOPE: Owner = Owner { name: "a scope", lists: &[attributes(3)] };
static SPAN: Owner = Owner {
    name: "a span",
    lists: &[
        attributes(9),
        List { field: 11, what: "events", most: |most| most.events, entries: Some(&EVENT) },
        List { field: 13, what: "links", most: |most| most.links, entries: Some(&LINK) },
    ],
};
static EVENT: Owner = Owner { name: "an event", lists: &[attributes(3)] };
static LINK: Owner = Owner { name: "a link", lists: &[attributes(4)] };
static LOG_RECORD: Owner = Owner { name: "a log record", lists: &[attributes(6)] };

/// The blocks of a request of that signal.
fn envelope(signal: Signal) -> &'static Envelope {
    match signal {
        Signal::Spans => &TRACES,
        Signal::Logs | Signal::Events => &LOGS,
    }
}

impl Envelope {
    fn find(&self, block: &[u8], most: &Most) -> Option<Excess> {
        Fields::new(block).find_map(|field| match (&self.children, field.key) {
            (_, found) if found == key(HEAD, LEN) => self.head.excess(field.value, most),
            (_, found) if found != key(CHILDREN, LEN) => None,
            (Children::Blocks(inner), _) => inner.find(field.value, most),
            (Children::Items(item), _) => item.excess(field.value, most),
        })
    }

    /// Appends what is within the limits, and gives the number of items left out.
    fn copy(&self, block: &[u8], most: &Most, out: &mut Vec<u8>) -> u64 {
        let mut heads = Fields::new(block).filter(|field| field.key == key(HEAD, LEN));
        if heads.any(|head| self.head.excess(head.value, most).is_some()) {
            return self.items(block);
        }
        let mut rejected = 0;
        for field in Fields::new(block) {
            match &self.children {
                _ if field.key != key(CHILDREN, LEN) => out.extend_from_slice(field.raw),
                Children::Blocks(inner) => {
                    nested(out, CHILDREN, |out| rejected += inner.copy(field.value, most, out));
                }
                Children::Items(item) if item.excess(field.value, most).is_some() => rejected += 1,
                Children::Items(_) => out.extend_from_slice(field.raw),
            }
        }
        rejected
    }

    fn items(&self, block: &[u8]) -> u64 {
        let children = Fields::new(block).filter(|field| field.key == key(CHILDREN, LEN));
        match &self.children {
            Children::Blocks(inner) => children.map(|child| inner.items(child.value)).sum(),
            Children::Items(_) => children.count() as u64,
        }
    }
}

impl Owner {
    #[inline]
    fn excess(&self, message: &[u8], most: &Most) -> Option<Excess> {
        let least = most.attributes.min(most.events).min(most.links);
        if message.len() / ENTRY <= least { None } else { self.count(message, most, least) }
    }

    /// Counts for as long as the rest can still pass the least of the limits.
    fn count(&self, message: &[u8], most: &Most, least: usize) -> Option<Excess> {
        let mut counts = [0_usize; LISTS];
        let (mut seen, mut left) = (0, message.len());
        for field in Fields::new(message) {
            if seen + left / ENTRY <= least {
                return None;
            }
            seen += 1;
            left -= field.raw.len();
            let Some(at) = self.lists.iter().position(|list| field.key == key(list.field, LEN)) else { continue };
            let list = &self.lists[at];
            counts[at] += 1;
            if counts[at] > (list.most)(most) {
                return Some(Excess { owner: self.name, what: list.what, most: (list.most)(most) });
            }
            if let Some(excess) = list.entries.and_then(|entry| entry.excess(field.value, most)) {
                return Some(excess);
            }
        }
        None
    }
}

#[cfg(test)]
mod tests;
