//! The broker's configuration.

use std::path::Path;

use super::security::Security;

/// Where a broker listens.
#[derive(Clone, Debug)]
pub(super) struct Listener {
    pub(super) name: String,
    /// Kafka's name for what is spoken there.
    pub(super) protocol: &'static str,
    pub(super) port: u16,
    /// The port that clients are told; `None` for the controller, of which they are not told.
    pub(super) told: Option<u16>,
}

impl Listener {
    pub(super) fn new(name: impl Into<String>, protocol: &'static str, port: u16) -> Self {
        Self { name: name.into(), protocol, port, told: Some(port) }
    }
}

/// The text of `server.properties`.
pub(super) fn text(listeners: &[Listener], controller: u16, data: &Path, security: Option<&Security>) -> String {
    let all =
        |write: &dyn Fn(&Listener) -> Option<String>| listeners.iter().filter_map(write).collect::<Vec<_>>().join(",");
    let bound = all(&|l| Some(format!("{}://127.0.0.1:{}", l.name, l.port)));
    let advertised = all(&|l| l.told.map(|told| format!("{}://127.0.0.1:{told}", l.name)));
    let protocols = all(&|l| Some(format!("{}:{}", l.name, l.protocol)));
    format!(
        "process.roles=broker,controller\n\
         node.id=1\n\
         controller.quorum.voters=1@127.0.0.1:{controller}\n\
         listeners={bound}\n\
         advertised.listeners={advertised}\n\
         listener.security.protocol.map={protocols}\n\
         controller.listener.names=CONTROLLER\n\
         log.dirs={}\n\
         offsets.topic.replication.factor=1\n\
         offsets.topic.num.partitions=4\n\
         transaction.state.log.replication.factor=1\n\
         transaction.state.log.min.isr=1\n\
         transaction.state.log.num.partitions=4\n\
         share.coordinator.state.topic.replication.factor=1\n\
         share.coordinator.state.topic.min.isr=1\n\
         transaction.abort.timed.out.transaction.cleanup.interval.ms=500\n\
         group.initial.rebalance.delay.ms=0\n\
         group.min.session.timeout.ms=500\n\
         log.retention.check.interval.ms=500\n\
         log.segment.delete.delay.ms=500\n\
         log.initial.task.delay.ms=500\n\
         {}",
        data.display(),
        security.map_or_else(String::new, Security::properties)
    )
}
