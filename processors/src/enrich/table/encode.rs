//! What a join adds, as bytes.

use std::convert::Infallible;

use afflux_schemas::objects::Kind;
use afflux_schemas::wire::{len_field_size, put_len_field, put_len_header, put_message_field};

use super::cluster::Cluster;
use super::pod::{Pod, Workload};
use crate::enrich::config::Selection;
use crate::enrich::strings::Tag;

/// `attributes` fields of a `Resource` message: all that is known of a pod.
pub(super) fn added(pod: &Pod, cluster: &Cluster, selection: &Selection) -> Box<[u8]> {
    let mut out = Vec::new();
    put(&mut out, "k8s.namespace.name", &pod.namespace);
    put(&mut out, "k8s.pod.name", &pod.name);
    put(&mut out, "k8s.pod.uid", &pod.uid);
    if let Some(node) = &pod.node {
        put(&mut out, "k8s.node.name", node);
    }
    if let Some(time) = pod.started_ms.or(pod.created_ms).and_then(rfc3339) {
        put(&mut out, "k8s.pod.start_time", &time);
    }
    let service = workloads(pod, cluster, &mut out);
    if let Some(image) = &pod.image {
        put(&mut out, "container.image.name", image);
    }
    put_all(&mut out, &pod.tags);
    put_all(&mut out, cluster.namespace_tags(&pod.namespace));
    put_all(&mut out, pod.node.as_ref().map_or(&[], |node| cluster.node_tags(node)));
    if let Some(service) = service.filter(|_| selection.service_name) {
        put(&mut out, "service.name", service);
    }
    out.into()
}

/// Appends who owns a pod, from the inside out, and returns the name of the outermost one.
fn workloads<'p>(pod: &'p Pod, cluster: &'p Cluster, out: &mut Vec<u8>) -> Option<&'p str> {
    let owner = pod.owner.as_ref()?;
    put_workload(out, owner);
    if !matches!(owner.kind, Kind::ReplicaSet | Kind::Job) {
        return Some(&owner.name);
    }
    match (cluster.owner_of(&owner.uid), &pod.guess) {
        (Some(Some(outer)), _) => {
            put_workload(out, outer);
            Some(&outer.name)
        }
        (None, Some(deployment)) => {
            put(out, "k8s.deployment.name", deployment);
            Some(deployment)
        }
        _ => Some(&owner.name),
    }
}

fn put_workload(out: &mut Vec<u8>, workload: &Workload) {
    let (name, uid) = match workload.kind {
        Kind::Deployment => ("k8s.deployment.name", "k8s.deployment.uid"),
        Kind::ReplicaSet => ("k8s.replicaset.name", "k8s.replicaset.uid"),
        Kind::StatefulSet => ("k8s.statefulset.name", "k8s.statefulset.uid"),
        Kind::DaemonSet => ("k8s.daemonset.name", "k8s.daemonset.uid"),
        Kind::Job => ("k8s.job.name", "k8s.job.uid"),
        Kind::CronJob => ("k8s.cronjob.name", "k8s.cronjob.uid"),
        Kind::Pod | Kind::Node | Kind::Namespace => return,
    };
    put(out, name, &workload.name);
    put(out, uid, &workload.uid);
}

fn put_all(out: &mut Vec<u8>, tags: &[Tag]) {
    tags.iter().for_each(|(key, value)| put(out, key, value));
}

/// Appends a `KeyValue` of text as field 1.
fn put(out: &mut Vec<u8>, key: &str, text: &str) {
    let Ok(()) = put_message_field(out, 1, |out| {
        put_len_field(out, 1, key.as_bytes());
        put_len_header(out, 2, len_field_size(1, text.len()));
        put_len_field(out, 1, text.as_bytes());
        Ok::<_, Infallible>(())
    });
}

/// A time as Kubernetes writes it, in whole seconds; none before the year 0 and after 9999.
pub(super) fn rfc3339(ms: i64) -> Option<String> {
    let seconds = ms.div_euclid(1000);
    let (days, second) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
    // Days since 0000-03-01, in eras of 400 years, so that a leap day is the last of its year.
    let days = days + 719_468;
    let (era, day) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    let year = year + 400 * era + i64::from(month <= 2);
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    let text = || format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z");
    (0..=9999).contains(&year).then(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_written_as_kubernetes_does() {
        for (seconds, expected) in [
            (0, Some("1970-01-01T00:00:00Z")),
            (1_700_000_000, Some("2023-11-14T22:13:20Z")),
            (951_782_399, Some("2000-02-28T23:59:59Z")),
            (951_782_400, Some("2000-02-29T00:00:00Z")),
            (1_709_164_800, Some("2024-02-29T00:00:00Z")),
            (1_735_689_599, Some("2024-12-31T23:59:59Z")),
            (4_107_542_400, Some("2100-03-01T00:00:00Z")),
            (-1, Some("1969-12-31T23:59:59Z")),
            (253_402_300_799, Some("9999-12-31T23:59:59Z")),
            (253_402_300_800, None),
            (i64::MAX / 1000, None),
            (i64::MIN / 1000, None),
        ] {
            assert_eq!(rfc3339(seconds * 1000).as_deref(), expected, "{seconds}");
        }
        assert_eq!(rfc3339(-1).as_deref(), Some("1969-12-31T23:59:59Z"));
        assert_eq!(rfc3339(1999).as_deref(), Some("1970-01-01T00:00:01Z"));
    }
}
