//! The objects topic as a table.

use afflux_bus::Received;
use afflux_runtime::followed::Table;

use super::{Enricher, Shared};

impl Table for Shared {
    type Content = Enricher;
    const WHAT: &'static str = "objects";

    fn fresh(&self) -> Enricher {
        self.read().fresh()
    }

    fn apply(enricher: &mut Enricher, record: &Received) {
        let Some(key) = &record.key else { return };
        if let Err(error) = enricher.apply(key, record.value.as_deref()) {
            tracing::warn!(partition = %record.from, offset = record.offset, %error, "no object; passed over");
        }
    }

    fn replace(&self, enricher: Enricher) {
        tracing::info!(pods = enricher.table().pods(), "objects loaded");
        *self.write() = enricher;
    }

    fn update(&self, records: &[Received]) {
        let mut enricher = self.write();
        records.iter().for_each(|record| Self::apply(&mut enricher, record));
    }
}
