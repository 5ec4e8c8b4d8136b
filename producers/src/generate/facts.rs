//! What a trace is about, and where each of its spans ran.

use super::random::{Random, mix};

/// A word whose text differs from trace to trace but never in length, so that it can be put into finished bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Word {
    Order,
    User,
    Session,
    Product,
    Client,
    /// Address of the pod at the other end of a call.
    Peer,
}

impl Word {
    /// Placeholders as the journeys write them.
    pub(super) const ALL: [(&'static str, Self); 6] = [
        ("{order}", Self::Order),
        ("{user}", Self::User),
        ("{session}", Self::Session),
        ("{product}", Self::Product),
        ("{client}", Self::Client),
        ("{peer}", Self::Peer),
    ];

    /// Length of the text in bytes.
    pub(super) const fn width(self) -> usize {
        match self {
            Self::Order => 36,
            Self::User => 7,
            Self::Session => 16,
            Self::Product => 10,
            Self::Client => 14,
            Self::Peer => 11,
        }
    }
}

/// A span that another one points at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Link {
    pub(super) trace_id: [u8; 16],
    pub(super) span_id: u64,
}

/// One trace's own values.
#[derive(Clone, Debug)]
pub(super) struct Facts {
    pub(super) trace_id: [u8; 16],
    /// Added to the times of the trace's spans, which are planned from zero.
    pub(super) epoch: u64,
    /// Total of the cart.
    pub(super) price: f64,
    /// Which variant of a template to take: the browser.
    pub(super) variant: usize,
    /// Which pod of each service works on this trace.
    pub(super) pods: u64,
    /// What the batch of messages was, for a trace that handles one.
    pub(super) batch: Vec<Link>,
    order: [u8; 36],
    user: [u8; 7],
    session: [u8; 16],
    product: [u8; 10],
    client: [u8; 14],
}

impl Facts {
    pub(super) fn new(trace_id: [u8; 16], batch: Vec<Link>) -> Self {
        let mut id = [0; 8];
        id.copy_from_slice(&trace_id[8..]);
        // Drawn from the trace id, so that what a trace is about does not depend on what came before it.
        let mut random = Random::new(u64::from_le_bytes(id), 1);
        let mut facts = Self {
            trace_id,
            epoch: 0,
            price: f64::from(random.below(40_000) + 199) / 100.0,
            variant: random.below(1 << 16) as usize,
            pods: random.next(),
            batch,
            order: *b"00000000-0000-4000-8000-000000000000",
            user: *b"u000000",
            session: [0; 16],
            product: *b"SKU-000000",
            client: *b"198.51.100.000",
        };
        for (at, width) in [(0, 8), (9, 4), (15, 3), (20, 3), (24, 12)] {
            hex(&mut facts.order[at..at + width], random.next());
        }
        hex(&mut facts.session, random.next());
        decimal(&mut facts.user[1..], random.below(50_000));
        // Few products make up most of the sales: the square of a uniform number.
        let popular = u64::from(random.below(4_000)).pow(2) / 4_000;
        decimal(&mut facts.product[4..], popular as u32);
        decimal(&mut facts.client[11..], 100 + random.below(155));
        facts
    }

    /// The text of a word; the peer is not the trace's to know.
    pub(super) fn word(&self, word: Word) -> &[u8] {
        match word {
            Word::Order => &self.order,
            Word::User => &self.user,
            Word::Session => &self.session,
            Word::Product => &self.product,
            Word::Client => &self.client,
            Word::Peer => &[],
        }
    }
}

/// One span as planned: who, when and how it ended.
#[derive(Clone, Copy, Debug)]
pub(super) struct Placed {
    /// Index of its operation in the shop.
    pub(super) node: u32,
    pub(super) id: u64,
    /// Zero for a root.
    pub(super) parent: u64,
    /// Nanoseconds since the beginning of the trace.
    pub(super) start: u64,
    pub(super) end: u64,
    pub(super) failed: bool,
}

impl Placed {
    /// A number of its own for each purpose.
    pub(super) const fn number(&self, purpose: u64) -> u64 {
        mix(self.id.wrapping_add(purpose))
    }
}

/// Writes a number in decimal digits, leading zeros included.
pub(super) fn decimal(out: &mut [u8], mut number: u32) {
    for digit in out.iter_mut().rev() {
        *digit = b'0' + (number % 10) as u8;
        number /= 10;
    }
}

/// Writes a number in hexadecimal digits.
pub(super) fn hex(out: &mut [u8], mut number: u64) {
    for digit in out.iter_mut() {
        *digit = b"0123456789abcdef"[(number & 15) as usize];
        number >>= 4;
    }
}
