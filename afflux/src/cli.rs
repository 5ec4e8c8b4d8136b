//! The arguments.

use std::net::SocketAddr;
use std::path::PathBuf;

use afflux_runtime::config::Period;
use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::admin;

/// Where `up` keeps its data unless told otherwise.
pub(crate) const DEFAULT_DATA_DIR: &str = "./afflux-data";

/// Carries spans and logs from OTLP over a durable bus into Parquet, and answers SQL over it.
#[derive(Debug, Parser)]
#[command(name = "afflux", version, propagate_version = true, max_term_width = 100)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Runs everything in this process, on a bus in the data directory.
    Up(UpArgs),
    /// Runs the configured components.
    Run(RunArgs),
    /// Answers SQL over the lake.
    Query(QueryArgs),
    /// Shows rates, lag and processing steps of a running instance, or the series of its span metrics.
    Status(StatusArgs),
    /// Asks whether a running instance is ready, for health checks: exit code 0 if it is.
    Health(HealthArgs),
    /// Sends the telemetry of a plausible shop of services to an OTLP endpoint.
    Generate(GenerateArgs),
    /// Creates the topics that do not exist, checks them, or makes them what the configuration says.
    Topics(TopicsArgs),
    /// Shows what could not be delivered, sends it back, or drops it.
    DeadLetters {
        #[command(subcommand)]
        command: DeadLettersCommand,
    },
    /// Feeds one sink again from a time on, while everything else goes on.
    Replay(ReplayArgs),
    /// Shows Kubernetes events of all clusters, as kubectl does those of one.
    Events(EventsArgs),
    /// Helps to write a configuration.
    Config {
        #[command(subcommand)]
        command: ConfigCommand,
    },
    /// Prints what a shell needs to complete the arguments.
    Completions {
        /// The shell.
        shell: clap_complete::Shell,
    },
    /// Writes manual pages, one for each command.
    Man {
        /// Where to: a directory that exists.
        #[arg(value_name = "DIR")]
        to: PathBuf,
    },
}

#[derive(Debug, Args)]
pub(crate) struct UpArgs {
    /// Generates load inside, so that there is something to see.
    #[arg(long)]
    pub(crate) demo: bool,
    /// Configuration file. What it does not say has its default, except that `up` has 2 partitions, keeps 24 hours and
    /// 1 GiB of each on the bus, and writes Parquet files every 10 seconds.
    #[arg(short, long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// Where bus (DIR/bus) and Parquet (DIR/lake) lie, unless the configuration says so.
    #[arg(long, value_name = "DIR", default_value = DEFAULT_DATA_DIR)]
    pub(crate) data_dir: PathBuf,
}

#[derive(Debug, Args)]
pub(crate) struct RunArgs {
    /// Configuration file.
    #[arg(short, long, value_name = "FILE")]
    pub(crate) config: PathBuf,
    /// Runs only these: producers, processors, sinks, or names of components such as sinks.parquet.
    #[arg(long, value_name = "NAME,…", value_delimiter = ',')]
    pub(crate) only: Vec<String>,
}

#[derive(Debug, Args)]
pub(crate) struct QueryArgs {
    /// The statement; one that only reads.
    #[arg(value_name = "SQL")]
    pub(crate) sql: String,
    /// Directory or s3:// URL of the lake.
    #[arg(long, value_name = "URL", default_value = "./afflux-data/lake")]
    pub(crate) lake: String,
    /// How the answer is written. By default a table on a terminal and JSON lines otherwise.
    #[arg(long, value_enum)]
    pub(crate) format: Option<QueryFormat>,
    /// File to write instead of standard output.
    #[arg(short, long, value_name = "FILE")]
    pub(crate) output: Option<PathBuf>,
}

/// How an answer is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum QueryFormat {
    Table,
    Csv,
    Json,
    Parquet,
}

#[derive(Debug, Args)]
pub(crate) struct StatusArgs {
    /// Admin address of the instance, as its `admin.listen`.
    #[arg(long, value_name = "ADDR", default_value = admin::DEFAULT)]
    pub(crate) admin: String,
    /// Goes on, every second.
    #[arg(long)]
    pub(crate) watch: bool,
    /// Shows instead how many series the span metrics of each tenant have, and what the limits do to them.
    #[arg(long)]
    pub(crate) cardinality: bool,
    /// Prints the answer of the admin port as it is.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct HealthArgs {
    /// Admin address of the instance, as its `admin.listen`: by default that of AFFLUX__ADMIN__LISTEN, or 127.0.0.1:9464.
    #[arg(long, value_name = "ADDR")]
    pub(crate) admin: Option<String>,
    /// Asks only whether the process is alive.
    #[arg(long)]
    pub(crate) live: bool,
}

#[derive(Debug, Args)]
pub(crate) struct GenerateArgs {
    /// Spans per second; 0 is as many as possible.
    #[arg(long, value_name = "N", default_value_t = 1000)]
    pub(crate) rate: u64,
    /// How long; without it until interrupted.
    #[arg(long, value_name = "TIME")]
    pub(crate) duration: Option<Period>,
    /// Stops after that many spans.
    #[arg(long, value_name = "N")]
    pub(crate) spans: Option<u64>,
    /// Where to send to, by default this machine's receiver. Over HTTP, /v1/traces and /v1/logs are appended.
    #[arg(long, value_name = "URL")]
    pub(crate) endpoint: Option<String>,
    /// A header of every request, such as x-scope-orgid=team-a; may be repeated.
    #[arg(long = "header", value_name = "KEY=VALUE")]
    pub(crate) headers: Vec<String>,
    /// The same seed gives the same ids; by default every run has its own.
    #[arg(long, value_name = "N")]
    pub(crate) seed: Option<u64>,
    /// OTLP over gRPC or over HTTP with protobuf.
    #[arg(long, value_enum, default_value_t = Protocol::Grpc)]
    pub(crate) protocol: Protocol,
    /// Sends spans only.
    #[arg(long)]
    pub(crate) no_logs: bool,
    /// Adds `TRACE_ID SPAN_ID` to this file for every span that was acknowledged.
    #[arg(long, value_name = "FILE")]
    pub(crate) acked_file: Option<PathBuf>,
}

/// How load is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Protocol {
    Grpc,
    Http,
}

#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub(crate) struct TopicsArgs {
    #[command(subcommand)]
    pub(crate) command: Option<TopicsCommand>,
    /// Configuration file.
    #[arg(short, long, value_name = "FILE", required = true)]
    pub(crate) config: Option<PathBuf>,
    /// Only compares: fails if a topic is missing or has another number of partitions.
    #[arg(long)]
    pub(crate) check: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum TopicsCommand {
    /// Shows how the topics differ from the configuration; exit code 1 if any does.
    Plan(TopicsFile),
    /// Shows the same, then creates topics, adds partitions and alters settings. Exit code 1 if differences are left
    /// that only Kafka's own tools can change.
    Apply(TopicsFile),
}

#[derive(Debug, Args)]
pub(crate) struct TopicsFile {
    /// Configuration file.
    #[arg(short, long, value_name = "FILE")]
    pub(crate) config: PathBuf,
}

#[derive(Debug, Subcommand)]
pub(crate) enum ConfigCommand {
    /// Prints a configuration file that sets every key to its default.
    Default,
    /// Checks a file, with the environment's overrides, without running anything.
    Check {
        /// The file.
        file: PathBuf,
    },
    /// Prints the JSON schema of the configuration, for editors.
    Schema,
}

#[derive(Debug, Args)]
pub(crate) struct ReplayArgs {
    /// The sink: loki, tempo or prometheus.
    #[arg(long, value_name = "NAME")]
    pub(crate) sink: String,
    /// Records of then or later: so long ago, such as 2h, or a time such as 2026-01-31T12:00:00Z.
    #[arg(long, value_name = "TIME", value_parser = dead_letters::time_ms)]
    pub(crate) from: i64,
    /// Records before then; without it, all that there are now.
    #[arg(long, value_name = "TIME", value_parser = dead_letters::time_ms)]
    pub(crate) until: Option<i64>,
    #[command(flatten)]
    pub(crate) place: dead_letters::Place,
}

pub(crate) mod dead_letters;
mod events;

pub(crate) use dead_letters::DeadLettersCommand;
pub(crate) use events::EventsArgs;

/// `HOST:PORT` or `http://HOST:PORT` as the base of URLs.
pub(crate) fn admin_url(address: &str) -> String {
    let address = address.trim_end_matches('/');
    if address.contains("://") { address.to_owned() } else { format!("http://{address}") }
}

/// The URL under which a client on this machine reaches a listener.
pub(crate) fn reachable(listen: SocketAddr) -> SocketAddr {
    let ip = match listen {
        SocketAddr::V4(v4) if v4.ip().is_unspecified() => std::net::Ipv4Addr::LOCALHOST.into(),
        SocketAddr::V6(v6) if v6.ip().is_unspecified() => std::net::Ipv6Addr::LOCALHOST.into(),
        other => other.ip(),
    };
    SocketAddr::new(ip, listen.port())
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_arguments_are_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn listeners_on_every_address_are_reached_on_loopback() {
        let reach = |text: &str| reachable(text.parse().expect("address")).to_string();
        assert_eq!(reach("0.0.0.0:4317"), "127.0.0.1:4317");
        assert_eq!(reach("[::]:4317"), "[::1]:4317");
        assert_eq!(reach("10.0.0.1:4317"), "10.0.0.1:4317");
        assert_eq!(admin_url("127.0.0.1:9464"), "http://127.0.0.1:9464");
        assert_eq!(admin_url("https://x/"), "https://x");
    }
}
