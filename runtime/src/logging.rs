//! Structured logs, on stderr.

use std::io::IsTerminal;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tracing_subscriber::EnvFilter;

/// Variable that overrides `log.level`.
pub const LEVEL_VARIABLE: &str = "AFFLUX_LOG";

/// `log`: what is logged, and how.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct LogConfig {
    /// `error`, `warn`, `info`, `debug` or `trace`, or a filter per module such as `info,afflux_bus=debug`. The
    /// variable AFFLUX_LOG overrides it.
    pub level: String,
    /// How a line looks; `auto` is text on a terminal and JSON otherwise.
    pub format: LogFormat,
}

/// How a log line looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    #[allow(missing_docs)] // The documentation would become part of the schema, where the names say it.
    Auto,
    #[allow(missing_docs)]
    Text,
    #[allow(missing_docs)]
    Json,
}

impl Default for LogConfig {
    fn default() -> Self {
        Self { level: "info".into(), format: LogFormat::Auto }
    }
}

/// Why logging could not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LogError {
    /// The filter is malformed.
    #[error("`{key}` is `{value}`: {reason}; write it like info or info,afflux_bus=debug")]
    Level {
        /// `log.level` or the variable.
        key: &'static str,
        /// As written.
        value: String,
        /// What does not fit.
        reason: String,
    },
    /// This process logs already.
    #[error("logging was started twice")]
    Twice,
}

/// Starts logging for the whole process. `override_level` is the value of [`LEVEL_VARIABLE`], if set.
pub fn init(config: &LogConfig, override_level: Option<&str>) -> Result<(), LogError> {
    let filter = filter(config, override_level)?;
    let json = match config.format {
        LogFormat::Auto => !std::io::stderr().is_terminal(),
        LogFormat::Text => false,
        LogFormat::Json => true,
    };
    let lines = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    let started = if json {
        lines.json().flatten_event(true).with_current_span(false).with_span_list(false).try_init()
    } else {
        lines.with_ansi(std::io::stderr().is_terminal()).try_init()
    };
    started.map_err(|_| LogError::Twice)
}

/// The filter that is configured, checked.
fn filter(config: &LogConfig, override_level: Option<&str>) -> Result<EnvFilter, LogError> {
    let (key, value) = match override_level.filter(|level| !level.is_empty()) {
        Some(level) => (LEVEL_VARIABLE, level),
        None => ("log.level", config.level.as_str()),
    };
    // A lone word is a level here, but a module to the filter's parser.
    let level = !value.chars().all(char::is_alphabetic) || value.parse::<tracing::Level>().is_ok() || value == "off";
    let refused = |reason: String| LogError::Level { key, value: value.to_owned(), reason };
    if !level {
        return Err(refused("not a level".into()));
    }
    EnvFilter::try_new(value).map_err(|error| refused(error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_and_filters_are_accepted_and_the_variable_wins() {
        let config = LogConfig { level: "warn,afflux_bus=debug".into(), ..LogConfig::default() };
        assert!(filter(&config, None).unwrap().to_string().contains("afflux_bus=debug"));
        assert_eq!(filter(&config, Some("trace")).unwrap().to_string(), "trace");
        assert!(filter(&config, Some("")).unwrap().to_string().contains("afflux_bus=debug"));
    }

    #[test]
    fn a_wrong_level_names_where_it_was_written() {
        let config = LogConfig { level: "verbose".into(), ..LogConfig::default() };
        let text = filter(&config, None).unwrap_err().to_string();
        assert!(text.starts_with("`log.level` is `verbose`: not a level"), "{text}");
        let text = filter(&config, Some("a=b=c")).unwrap_err().to_string();
        assert!(text.starts_with("`AFFLUX_LOG` is `a=b=c`"), "{text}");
    }
}
