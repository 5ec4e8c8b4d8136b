//! Whole processors' stages on Kafka by what their chain does: nothing, span metrics, the default.
//!
//! As in `transactions.rs`, a stage runs inside this process over topics that are filled before; CPU time is that of this
//! process, the broker's is not in it. Chains take turns, and the ratio is that of their medians to the empty chain's.
//! The first turn is left out.
//!
//! Arguments: `--spans N` (2,000,000 by default), `--turns N` (3).

// A benchmark reports on its standard output.
#![allow(clippy::print_stdout)]

#[path = "stage.rs"]
mod stage;

use std::sync::Arc;

use afflux_bus::Bus;
use afflux_bus::kafka::{KafkaBus, KafkaConfig};
use afflux_processors::ProcessorsConfig;
use afflux_processors::config::{ChainConfig, SpanStep};
use afflux_schemas::topics::Topics;
use afflux_tests::kafka::KafkaServer;
use anyhow::Result;

fn main() -> Result<()> {
    let (spans, turns) = (stage::number("--spans", 2_000_000)?, stage::number("--turns", 3)?);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        let Some(kafka) = KafkaServer::start()? else {
            println!("skipped, there is no Kafka here");
            return Ok(());
        };
        let bus: Arc<dyn Bus> = KafkaBus::connect(KafkaConfig::new(kafka.brokers())).await?;
        let topics = Topics::new("bench");
        let records = stage::fill(&*bus, &topics, spans).await?;
        println!("{spans} spans in {records} records, {} partitions", stage::PARTITIONS);
        let default = ChainConfig::default().spans;
        let chains = [("[]", vec![]), ("[span_metrics]", vec![SpanStep::SpanMetrics]), ("the default", default)];
        let mut seconds = chains.each_ref().map(|_| Vec::new());
        for turn in 0..=turns {
            for ((name, steps), seconds) in chains.iter().zip(&mut seconds) {
                let mut config = ProcessorsConfig { group: format!("{}-{turn}", steps.len()), ..Default::default() };
                config.chain.spans.clone_from(steps);
                let took = stage::run(Arc::clone(&bus), &topics, config).await?;
                println!("turn {turn}: {name}: {took:.2} CPU-s");
                if turn > 0 {
                    seconds.push(took);
                }
            }
        }
        seconds.iter_mut().for_each(|seconds| seconds.sort_by(f64::total_cmp));
        let median = |seconds: &[f64]| seconds[seconds.len() / 2];
        for ((name, _), seconds_of) in chains.iter().zip(&seconds) {
            let (rate, best) = (spans as f64 / median(seconds_of), spans as f64 / seconds_of[0]);
            let ratio = median(&seconds[0]) / median(seconds_of);
            println!("{name}: {rate:.0} spans/CPU-s, best {best:.0}, ratio {ratio:.3}");
        }
        Ok(())
    })
}
