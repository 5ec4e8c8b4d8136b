//! `afflux config default|check|schema`.

use std::path::Path;

use afflux_runtime::config::{commented_default, schema};

use crate::cli::ConfigCommand;
use crate::components::Selection;
use crate::config::{self, Config};
use crate::output::print;
use crate::process::checked;

pub(crate) fn config(command: &ConfigCommand) -> anyhow::Result<()> {
    match command {
        ConfigCommand::Default => print(&default_text()?)?,
        ConfigCommand::Schema => print(&format!("{:#}\n", schema::<Config>()))?,
        ConfigCommand::Check { file } => print(&check(file)?)?,
    }
    Ok(())
}

fn default_text() -> anyhow::Result<String> {
    let head = "# Every key with its default. A file needs only the keys that differ.\n\
                # The environment overrides the file: AFFLUX__BUS__KAFKA__BROKERS is bus.kafka.brokers.\n\n";
    Ok(format!("{head}{}", commented_default::<Config>()?))
}

/// What would run with that file.
fn check(file: &Path) -> anyhow::Result<String> {
    let config = config::load(file)?;
    let pipeline = checked(&config, &Selection::everything())?;
    let names = pipeline.iter().map(|(_, component)| component.name()).collect::<Vec<_>>().join(", ");
    Ok(format!("{}: ok; runs {names} on the {} bus\n", file.display(), config.bus.kind.as_str()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_printed_default_is_the_default() {
        let text = default_text().expect("writable");
        let loaded: Config = afflux_runtime::config::load("default", &text, []).expect("valid");
        assert_eq!(loaded, Config::default(), "{text}");
    }
}
