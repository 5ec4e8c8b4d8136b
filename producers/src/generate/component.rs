//! The shop as a part of the pipeline, for demonstrations.

use afflux_runtime::admin::State;
use afflux_runtime::{Component, ComponentError, Context};
use async_trait::async_trait;

use super::config::GenerateConfig;
use super::error::GenerateError;
use super::send::{self, Report, Target};

/// Sends the shop's telemetry to a receiver of the same process, through the same door as everybody else.
#[derive(Debug)]
pub struct Generate {
    config: GenerateConfig,
    target: Target,
}

impl Generate {
    /// As in `/status`.
    pub const NAME: &str = "producers.generate";

    /// Sends to that receiver, which may come up later.
    pub fn new(config: GenerateConfig, target: Target) -> Result<Self, GenerateError> {
        config.validate()?;
        Ok(Self { config, target })
    }
}

#[async_trait]
impl Component for Generate {
    fn name(&self) -> &'static str {
        Self::NAME
    }

    async fn run(self: Box<Self>, context: Context) -> Result<(), ComponentError> {
        // A demonstration's load says nothing about whether the process can work.
        context.health.set(State::Ready);
        let mut told = (0, 0);
        let tell = |report: &Report| {
            let now = (report.retries, report.spans.refused + report.log_records.refused);
            if now != told {
                let reason = report.problem.as_deref().unwrap_or_default();
                tracing::warn!(retries = now.0, refused = now.1, reason, "the shop's telemetry is not taken");
                told = now;
            }
        };
        let report = send::run(&self.config, &self.target, context.shutdown, tell)
            .await
            .map_err(|error| ComponentError::new(Self::NAME, error))?;
        let (acked, refused) = (report.spans.acked, report.spans.refused);
        tracing::info!(acked, refused, unanswered = report.spans.unanswered(), "the shop is closed");
        context.health.set(State::Stopped);
        Ok(())
    }
}
