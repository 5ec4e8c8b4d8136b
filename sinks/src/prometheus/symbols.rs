//! The symbols of a request of remote write 2.0: every text once, named by its position.

use std::hash::BuildHasher as _;

use afflux_schemas::wire::put_len_field;
use hashbrown::{DefaultHashBuilder, HashTable};

/// Field of the symbols in a request.
const SYMBOLS: u32 = 4;

/// Texts in the order of their first use. The first is the empty one.
#[derive(Debug)]
pub(super) struct Symbols {
    /// As fields of the request.
    encoded: Vec<u8>,
    /// Where each text lies in there.
    places: Vec<(u32, u32)>,
    known: HashTable<u32>,
    hasher: DefaultHashBuilder,
}

impl Default for Symbols {
    fn default() -> Self {
        let mut symbols = Self {
            encoded: Vec::with_capacity(16 * 1024),
            places: Vec::with_capacity(512),
            known: HashTable::with_capacity(512),
            hasher: DefaultHashBuilder::default(),
        };
        symbols.of("");
        symbols
    }
}

impl Symbols {
    /// The position of a text.
    #[inline]
    pub(super) fn of(&mut self, text: &str) -> u32 {
        let Self { encoded, places, known, hasher } = self;
        let at = |place: &u32| {
            let (start, len) = places[*place as usize];
            &encoded[start as usize..][..len as usize]
        };
        if let Some(&place) = known.find(hasher.hash_one(text.as_bytes()), |place| at(place) == text.as_bytes()) {
            return place;
        }
        // A request is far below 4 GiB and has fewer texts than bytes.
        let place = places.len() as u32;
        put_len_field(encoded, SYMBOLS, text.as_bytes());
        places.push(((encoded.len() - text.len()) as u32, text.len() as u32));
        let rehash = |place: &u32| {
            let (start, len) = places[*place as usize];
            hasher.hash_one(&encoded[start as usize..][..len as usize])
        };
        known.insert_unique(hasher.hash_one(text.as_bytes()), place, rehash);
        place
    }

    /// The symbols as fields of the request.
    pub(super) fn encoded(&self) -> &[u8] {
        &self.encoded
    }
}

#[cfg(test)]
mod tests {
    use afflux_schemas::wire::Fields;

    use super::*;

    #[test]
    fn every_text_stands_once_and_the_first_is_empty() {
        let mut symbols = Symbols::default();
        let places = ["a", "", "b", "a", "b", "ab"].map(|text| symbols.of(text));
        assert_eq!(places, [1, 0, 2, 1, 2, 3]);
        let many: Vec<u32> = (0..2000).map(|n| symbols.of(&format!("text {n}"))).collect();
        assert_eq!(many, (4..2004).collect::<Vec<_>>());
        assert_eq!(symbols.of("text 1500"), 1504, "found again after the table has grown");
        let texts: Vec<_> = Fields::new(symbols.encoded()).map(|field| field.value).collect();
        assert_eq!((&texts[..4], texts.len()), (&[&b""[..], b"a", b"b", b"ab"][..], 2004));
    }
}
