//! Low watermark of settled offsets.
/// Placeholder until the ledger lands.
#[derive(Debug, Default)]
pub struct Ledger;
