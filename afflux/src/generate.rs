//! `afflux generate`: load for an OTLP endpoint.

use std::io::{IsTerminal, Write};

use afflux_producers::generate::send::{self, Report, Target};
use afflux_producers::generate::{GenerateConfig, GenerateError};
use afflux_runtime::signals;
use anyhow::bail;

use crate::cli::{GenerateArgs, Protocol};
use crate::output::{Misuse, bytes, count, print};

pub(crate) async fn generate(args: GenerateArgs) -> anyhow::Result<()> {
    let protocol = match args.protocol {
        Protocol::Grpc => send::Protocol::Grpc,
        Protocol::Http => send::Protocol::Http,
    };
    let endpoint = args.endpoint.as_deref().unwrap_or(protocol.local_endpoint());
    let mut target = Target::new(protocol, endpoint).map_err(misuse)?;
    for header in &args.headers {
        target = target.with_header(header).map_err(misuse)?;
    }
    let config = GenerateConfig {
        rate: args.rate,
        duration: args.duration,
        spans: args.spans,
        seed: args.seed,
        logs: !args.no_logs,
        acked_file: args.acked_file,
        ..GenerateConfig::default()
    };
    config.validate().map_err(misuse)?;
    let stop = signals::stop_on_signals()?;
    let terminal = std::io::stderr().is_terminal();
    let report = send::run(&config, &target, stop, |report| {
        if terminal {
            // Progress is for whoever watches; nobody does where standard error is closed.
            let _ = write!(std::io::stderr(), "\r\x1b[K{}", summary(report));
        }
    })
    .await?;
    if terminal {
        let _ = write!(std::io::stderr(), "\r\x1b[K");
    }
    print(&format!("{}\n", summary(&report)))?;
    if report.spans.acked == 0 && report.spans.sent > 0 {
        let problem = report.problem.unwrap_or_else(|| "it did not answer".into());
        bail!("{target} acknowledged nothing: {problem}");
    }
    Ok(())
}

fn misuse(error: GenerateError) -> Misuse {
    Misuse(error.to_string())
}

fn summary(report: &Report) -> String {
    let mut text = format!(
        "{} spans and {} logs acknowledged in {:.1} s ({} spans/s, {})",
        count(report.spans.acked as f64),
        count(report.log_records.acked as f64),
        report.elapsed.as_secs_f64(),
        count(report.spans_per_second().round()),
        bytes(report.bytes as f64),
    );
    let refused = report.spans.refused + report.log_records.refused;
    let unanswered = report.spans.unanswered() + report.log_records.unanswered();
    for (n, what) in [(refused, "refused"), (unanswered, "unanswered"), (report.retries, "retries")] {
        if n > 0 {
            text += &format!(", {} {what}", count(n as f64));
        }
    }
    text
}
