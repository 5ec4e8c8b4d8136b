//! Enrichment as a step of the chain.

use super::Shared;
use crate::chain::{At, Envelope, Next, Step};

/// The step's name.
pub const NAME: &str = "enrich";

/// The step that adds to resources what is known of their pods.
pub struct Enrich {
    shared: Shared,
}

impl Enrich {
    /// A step that looks up in a table that somebody else fills.
    pub fn new(shared: Shared) -> Self {
        Self { shared }
    }
}

impl Step for Enrich {
    fn name(&self) -> &'static str {
        NAME
    }

    fn process(&mut self, mut envelope: Envelope, _: &At<'_>, next: &mut Next<'_>) {
        let joins;
        (envelope.value, joins) =
            self.shared.read().enrich((&envelope.cluster, envelope.timestamp_ms), &envelope.value);
        next.note("resources_joined", joins.joined);
        next.note("resources_missing", joins.missing);
        next.note("resources_without_key", joins.no_key);
        next.pass(envelope);
    }
}
