//! Events of the lake.

use afflux_query::{Lake, Options, render};
use afflux_runtime::kubernetes_events::{EventFilter, KubernetesEvent};
use serde::Deserialize;

/// A row of the answer.
#[derive(Deserialize)]
struct Row {
    #[serde(flatten)]
    event: KubernetesEvent,
    body: Option<String>,
}

/// The events that are asked for, oldest first.
pub(super) async fn events(url: &str, filter: &EventFilter) -> anyhow::Result<Vec<KubernetesEvent>> {
    let lake = Lake::open(url, Options::default()).await?;
    let mut lines = Vec::new();
    render::json_lines(lake.sql(&sql(filter)).await?, &mut lines).await?;
    let mut events = Vec::new();
    for line in lines.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
        let Row { mut event, body } = serde_json::from_slice(line)?;
        event.complete(&body.unwrap_or_default());
        events.push(event);
    }
    events.retain(|event| filter.admits(event));
    Ok(events)
}

/// Finds what may be asked for; cluster and time choose the files.
fn sql(filter: &EventFilter) -> String {
    let text = |map: &str, key: &str, name: &str| format!("coalesce({map}['{key}'], '') AS \"{name}\"");
    let own = |key: &str, name: &str| text("attributes", &format!("k8s.{key}"), name);
    let columns = [
        "CAST(time AS BIGINT) / 1000000 AS time_ms".to_owned(),
        "cluster".to_owned(),
        "body".to_owned(),
        own("event.start_time", "start"),
        "coalesce(attributes['k8s.namespace.name'], namespace, '') AS namespace".to_owned(),
        own("event.type", "type"),
        own("event.reason", "reason"),
        own("event.category", "category"),
        own("event.uid", "uid"),
        "greatest(coalesce(TRY_CAST(attributes['k8s.event.count'] AS BIGINT), 1), 0) AS count".to_owned(),
        text("resource_attributes", "k8s.object.kind", "kind"),
        text("resource_attributes", "k8s.object.name", "object"),
    ];
    let since = filter.since_ms.max(0).unsigned_abs();
    let since = humantime::format_rfc3339_millis(std::time::UNIX_EPOCH + std::time::Duration::from_millis(since));
    let mut wanted =
        vec![format!("time >= TIMESTAMP '{since}'"), "event_name IN ('k8s.event', 'k8s.event.gap')".to_owned()];
    let is = |column: &str, name: &Option<String>| Some(format!("{column} = '{}'", name.as_ref()?.replace('\'', "''")));
    wanted.extend(is("cluster", &filter.cluster));
    // A gap is about everything in its cluster.
    let of_event = [
        is("coalesce(attributes['k8s.namespace.name'], namespace)", &filter.namespace),
        is("resource_attributes['k8s.object.name']", &filter.pod),
        filter.warnings.then(|| "attributes['k8s.event.type'] = 'Warning'".to_owned()),
    ];
    wanted.extend(of_event.into_iter().flatten().map(|wanted| format!("(event_name = 'k8s.event.gap' OR {wanted})")));
    format!("SELECT {} FROM events WHERE {} ORDER BY time", columns.join(", "), wanted.join(" AND "))
}
