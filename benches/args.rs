//! Arguments of benchmarks.

use anyhow::{Context as _, Result};

/// The value of a numeric argument.
pub(crate) fn number(name: &str, default: u64) -> Result<u64> {
    let mut args = std::env::args().skip_while(|arg| arg != name);
    if args.next().is_none() {
        return Ok(default);
    }
    Ok(args.next().with_context(|| format!("{name} needs a number"))?.parse()?)
}
