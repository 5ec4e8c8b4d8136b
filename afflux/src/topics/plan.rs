//! `afflux topics plan|apply`: every difference between the topics and the configuration, as lines.

use std::fmt::Write as _;
use std::path::Path;
use std::sync::Arc;

use afflux_bus::Bus as _;
use afflux_bus::kafka::{KafkaBus, TopicChange, TopicPlan};
use anyhow::bail;

use crate::config::{BusKind, Config};
use crate::output::{Misuse, print};
use crate::process::start_logging;
use crate::{buses, components, config};

/// Shows the differences; fails where there are any.
pub(crate) async fn plan(file: &Path) -> anyhow::Result<()> {
    let (config, bus) = open(file).await?;
    let plans = bus.plan_topics(&components::topics(&config)).await?;
    bus.close().await;
    print(&shown(&plans))?;
    let different = different(&plans);
    if different > 0 {
        bail!("{different} of {} topics are not as configured; {}", plans.len(), remedy(&plans));
    }
    Ok(())
}

/// Shows the differences and makes the possible changes; fails where others are left.
pub(crate) async fn apply(file: &Path) -> anyhow::Result<()> {
    let (config, bus) = open(file).await?;
    let plans = bus.plan_topics(&components::topics(&config)).await?;
    print(&shown(&plans))?;
    bus.apply_topics(&plans).await?;
    let left = bus.plan_topics(&components::topics(&config)).await?;
    bus.close().await;
    let different = different(&left);
    if different > 0 {
        bail!("{different} of {} topics are still not as configured; {}", left.len(), remedy(&left));
    }
    Ok(())
}

async fn open(file: &Path) -> anyhow::Result<(Config, Arc<KafkaBus>)> {
    let config = config::load(file)?;
    start_logging(&config)?;
    buses::validate(&config)?;
    if config.bus.kind != BusKind::Kafka {
        let reason = "`bus.kind` is local: its topics have nothing to plan, `afflux topics` creates them";
        return Err(Misuse(reason.to_owned()).into());
    }
    let bus = buses::connect_kafka(&config).await?;
    Ok((config, bus))
}

fn different(plans: &[TopicPlan]) -> usize {
    plans.iter().filter(|plan| !plan.changes.is_empty()).count()
}

fn remedy(plans: &[TopicPlan]) -> &'static str {
    let possible = |plan: &TopicPlan| plan.changes.iter().any(TopicChange::is_possible);
    let all = |plan: &TopicPlan| plan.changes.iter().all(TopicChange::is_possible);
    match (plans.iter().any(possible), plans.iter().all(all)) {
        (true, true) => "`afflux topics apply` makes them so",
        (true, false) => "`afflux topics apply` changes the lines with + and ~",
        (false, _) => "see the lines with !",
    }
}

/// One line per topic, and one per difference: `+` is added, `~` is changed, `!` is left alone.
fn shown(plans: &[TopicPlan]) -> String {
    let mut text = String::new();
    for plan in plans {
        let state = match plan.changes.first() {
            None => "as configured",
            Some(TopicChange::Create { .. }) => "missing",
            Some(_) => "differs",
        };
        let _ = writeln!(text, "{}: {state}", plan.spec.name);
        plan.changes.iter().for_each(|change| show(&mut text, &plan.spec.name, change));
    }
    text
}

fn show(text: &mut String, topic: &str, change: &TopicChange) {
    let _ = match change {
        TopicChange::Create { partitions, replication, settings } => {
            let replicas = replication.map_or_else(|| "as the brokers are configured".to_owned(), |n| n.to_string());
            let _ = writeln!(text, "  + partitions: {partitions}\n  + replication: {replicas}");
            settings.iter().try_for_each(|(key, value)| writeln!(text, "  + {key}: {value}"))
        }
        TopicChange::AddPartitions { present, wanted } => writeln!(
            text,
            "  ~ partitions: {present} -> {wanted}; from then on keys go to other partitions than before, so the records \
             of a trace that is under way may be separated{}",
            if [".metrics", ".series"].iter().any(|end| topic.ends_with(end)) {
                ", and series begin again from zero; change it while no processors run"
            } else {
                ""
            }
        ),
        TopicChange::ExcessPartitions { present, wanted } => writeln!(
            text,
            "  ! partitions: {present}, configured are {wanted}; Kafka cannot remove any: set `topics.partitions`, or \
             delete the topic with kafka-topics.sh --delete --topic {topic} and its records with it"
        ),
        TopicChange::Replication { present, wanted } => writeln!(
            text,
            "  ! replication: {present}, configured are {wanted}; afflux moves no replicas: use \
             kafka-reassign-partitions.sh, or set `topics.replication`"
        ),
        TopicChange::Setting { key, present, wanted } => {
            writeln!(text, "  ~ {key}: {} -> {wanted}", present.as_deref().unwrap_or("(unknown)"))
        }
    };
}

#[cfg(test)]
mod tests {
    use afflux_bus::{Cleanup, TopicSpec};

    use super::*;

    fn plan(name: &str, changes: Vec<TopicChange>) -> TopicPlan {
        TopicPlan { spec: TopicSpec { name: name.into(), partitions: 4, cleanup: Cleanup::Compact }, changes }
    }

    #[test]
    fn every_difference_has_its_line() {
        let settings = vec![("cleanup.policy".to_owned(), "compact".to_owned())];
        let present = Some("5".to_owned());
        let plans = [
            plan("a", vec![]),
            plan("b", vec![TopicChange::Create { partitions: 4, replication: None, settings }]),
            plan("c", vec![TopicChange::Setting { key: "retention.ms".to_owned(), present, wanted: "7".to_owned() }]),
            plan("d", vec![TopicChange::AddPartitions { present: 2, wanted: 4 }]),
            plan("d.series", vec![TopicChange::AddPartitions { present: 2, wanted: 4 }]),
            plan("e", vec![TopicChange::ExcessPartitions { present: 8, wanted: 4 }]),
            plan("f", vec![TopicChange::Replication { present: 1, wanted: 3 }]),
        ];
        let text = shown(&plans);
        for line in [
            "a: as configured\nb: missing\n  + partitions: 4\n  + replication: as the brokers are configured\n",
            "  + cleanup.policy: compact\nc: differs\n  ~ retention.ms: 5 -> 7\n",
            "  ~ partitions: 2 -> 4; from then on keys go to other partitions",
            "may be separated, and series begin again from zero; change it while no processors run\n",
            "  ! partitions: 8, configured are 4; Kafka cannot remove any",
            "  ! replication: 1, configured are 3; afflux moves no replicas: use kafka-reassign-partitions.sh",
        ] {
            assert!(text.contains(line), "`{line}` is not in:\n{text}");
        }
        assert_eq!(different(&plans), 6);
        assert!(remedy(&plans).contains("+ and ~"));
        assert!(remedy(&plans[..5]).contains("makes them so"));
        assert!(remedy(&plans[5..]).contains("lines with !"));
    }
}
