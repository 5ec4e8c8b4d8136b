//! The binary on a secured Kafka, and what it shows of its secrets: nothing.

use std::fs;

use afflux_tests::afflux::{Afflux, Options, run};
use afflux_tests::kafka::security::{PASSWORD, USER};
use afflux_tests::load::Load;

use super::kafka;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_process_works_over_tls_and_scram_and_shows_the_password_nowhere() -> anyhow::Result<()> {
    let Some(kafka) = kafka().await else { return Ok(()) };
    let dir = tempfile::tempdir()?;
    let ca = kafka.security().ca();
    let yaml = |password: &str| {
        format!(
            "bus:\n  kind: kafka\n  kafka:\n    brokers: {}\n    tls: {{ca: {}}}\n    \
             sasl: {{mechanism: SCRAM-SHA-512, username: {USER}, {password}}}\n\
             topics: {{prefix: secured, partitions: 1}}\nlog: {{level: 'debug,afflux_bus=trace'}}\n",
            kafka.sasl_tls(),
            ca.display()
        )
    };
    let options = Options::run("producers,processors,sinks")
        .config(&yaml(&format!("password: {PASSWORD}")))
        // With all that librdkafka has to say about it.
        .config("producers: {generate: false}")
        .env("AFFLUX__BUS__KAFKA__OPTIONS", "{debug: 'security,conf,broker,protocol'}")
        .env("AFFLUX__SINKS__PARQUET__URL", dir.path().join("lake").display().to_string())
        .env("AFFLUX__SINKS__PARQUET__FLUSH__AGE", "200ms");
    let process = Afflux::start(dir.path(), &options).await?;
    let load = Load::new(1);
    assert!(load.send_one(process.http, 100).await, "the request was refused");
    let spans = load.snapshot().acked.iter().filter(|id| !id.contains('@')).count();
    process.settles("sinks.parquet", "spans", spans).await?;
    let status = reqwest::get(format!("http://127.0.0.1:{}/status", process.admin)).await?.text().await?;
    assert!(status.contains("SCRAM-SHA-512") && status.contains("(hidden)"), "{status}");
    assert!(!status.contains(PASSWORD), "{status}");
    let log = process.log();
    assert!(log.contains("for SASL mechanism SCRAM-SHA-512"), "the log holds what librdkafka says: {log}");
    assert!(!log.contains(PASSWORD), "{log}");
    process.stop().await?;

    // Neither when it is right nor when it is wrong, nor when the section is.
    let file = dir.path().join("afflux.yaml");
    let path = file.display().to_string();
    let both = format!("password: {PASSWORD}, password_file: /nowhere");
    for (text, commands) in [
        (yaml(&format!("password: {PASSWORD}")), vec![vec!["config", "check", &path], vec!["topics", "-c", &path]]),
        (yaml(&format!("password: {PASSWORD}x")), vec![vec!["topics", "-c", &path]]),
        (yaml(&both), vec![vec!["config", "check", &path], vec!["run", "-c", &path]]),
        (yaml(&format!("pasword: {PASSWORD}")), vec![vec!["config", "check", &path]]),
        (yaml(&format!("password: [{PASSWORD}]")), vec![vec!["config", "check", &path]]),
    ] {
        fs::write(&file, text)?;
        for arguments in commands {
            let output = run(&arguments)?;
            let said =
                [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).concat();
            assert!(!said.is_empty() && !said.contains(PASSWORD), "{arguments:?}: {said}");
        }
    }
    Ok(())
}
