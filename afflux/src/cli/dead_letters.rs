//! The arguments of `afflux dead-letters`.

use std::path::PathBuf;
use std::time::SystemTime;

use afflux_runtime::dead_letter::{LetterId, Selection};
use clap::{Args, Subcommand};

#[derive(Debug, Subcommand)]
pub(crate) enum DeadLettersCommand {
    /// Lists dead letters: a table on a terminal, JSON lines otherwise.
    List(ListArgs),
    /// Shows one dead letter with its headers and its value.
    Show(ShowArgs),
    /// Sends dead letters back to their topic, for the component that refused them.
    Replay(ResolveArgs),
    /// Marks dead letters as not wanted any more.
    Drop(ResolveArgs),
}

/// Which bus.
#[derive(Debug, Args)]
pub(crate) struct Place {
    /// Configuration file: with `bus.kind: kafka` that bus is opened, with `local` the instance at its `admin.listen`
    /// is asked.
    #[arg(short, long, value_name = "FILE", conflicts_with = "admin")]
    pub(crate) config: Option<PathBuf>,
    /// Admin address of the instance, as its `admin.listen`; by default 127.0.0.1:9464.
    #[arg(long, value_name = "ADDR")]
    pub(crate) admin: Option<String>,
}

/// Which dead letters.
#[derive(Debug, Args)]
pub(crate) struct Filter {
    /// Ids, as `list` shows them.
    #[arg(value_name = "PARTITION:OFFSET")]
    ids: Vec<LetterId>,
    /// Full name of the topic that they were read from.
    #[arg(long)]
    topic: Option<String>,
    /// The component that refused them, such as processors or sinks.parquet.
    #[arg(long, value_name = "NAME")]
    component: Option<String>,
    /// Why, as one word, such as malformed or too_large.
    #[arg(long, value_name = "WORD")]
    reason: Option<String>,
    /// The cluster that their header names.
    #[arg(long, value_name = "NAME")]
    cluster: Option<String>,
    /// Refused then or later: so long ago, such as 2h, or a time such as 2026-01-31T12:00:00Z.
    #[arg(long, value_name = "TIME", value_parser = time_ms)]
    since: Option<i64>,
    /// Refused before then.
    #[arg(long, value_name = "TIME", value_parser = time_ms)]
    until: Option<i64>,
    /// So many at most, from the oldest on in each partition.
    #[arg(long, value_name = "N")]
    limit: Option<u64>,
}

impl Filter {
    pub(crate) fn selection(&self) -> Selection {
        Selection {
            ids: self.ids.clone(),
            topic: self.topic.clone(),
            component: self.component.clone(),
            reason: self.reason.clone(),
            cluster: self.cluster.clone(),
            since_ms: self.since,
            until_ms: self.until,
            all: false,
            limit: self.limit,
        }
    }
}

#[derive(Debug, Args)]
pub(crate) struct ListArgs {
    #[command(flatten)]
    pub(crate) filter: Filter,
    /// Those that have been replayed or dropped as well.
    #[arg(long)]
    pub(crate) all: bool,
    #[command(flatten)]
    pub(crate) place: Place,
}

#[derive(Debug, Args)]
pub(crate) struct ShowArgs {
    /// Its id, as `list` shows it.
    #[arg(value_name = "PARTITION:OFFSET")]
    pub(crate) id: LetterId,
    /// Writes the bytes of the value and nothing else.
    #[arg(long)]
    pub(crate) raw: bool,
    #[command(flatten)]
    pub(crate) place: Place,
}

#[derive(Debug, Args)]
pub(crate) struct ResolveArgs {
    #[command(flatten)]
    pub(crate) filter: Filter,
    /// Every open dead letter, where no id and no filter is given.
    #[arg(long)]
    pub(crate) everything: bool,
    /// Does not ask.
    #[arg(short, long)]
    pub(crate) yes: bool,
    /// Shows which ones it would be, and does nothing.
    #[arg(long)]
    pub(crate) dry_run: bool,
    #[command(flatten)]
    pub(crate) place: Place,
}

/// A time in milliseconds since the Unix epoch: so long ago, or as RFC 3339 writes it.
pub(crate) fn time_ms(text: &str) -> Result<i64, String> {
    let time = match humantime::parse_rfc3339_weak(text) {
        Ok(time) => Some(time),
        Err(_) => humantime::parse_duration(text).ok().and_then(|ago| SystemTime::now().checked_sub(ago)),
    };
    let since = time.and_then(|time| time.duration_since(SystemTime::UNIX_EPOCH).ok());
    let ms = since.and_then(|since| i64::try_from(since.as_millis()).ok());
    ms.ok_or_else(|| "write so long ago, such as 2h, or a time such as 2026-01-31T12:00:00Z".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_ago_or_absolute() {
        assert_eq!(time_ms("1970-01-01T00:00:01Z"), Ok(1_000));
        assert_eq!(time_ms("1970-01-01 00:00:02"), Ok(2_000));
        let (hour, now) = (time_ms("1h").expect("a duration"), time_ms("0s").expect("a duration"));
        assert!((3_599_000..=3_601_000).contains(&(now - hour)), "{hour} {now}");
        assert!(time_ms("yesterday").expect_err("no time").contains("2h"));
    }
}
