//! Grouping by cluster: resource blocks are copied as they stand.

use std::collections::HashMap;

use bytes::Bytes;

use crate::identity::Identity;
use crate::otlp::block::Block;
use crate::otlp::common::ResourceView;
use crate::wire::{Fields, LEN, Repeated, key};

/// The share of one cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClusterPart {
    /// The resources' `k8s.cluster.name`; `None` for those without.
    pub cluster: Option<String>,
    /// A request of the same signal.
    pub value: Bytes,
    /// Spans or log records in it.
    pub items: u64,
}

struct Group<'a> {
    cluster: Option<&'a str>,
    blocks: Vec<&'a [u8]>,
    items: u64,
}

/// Groups the resources of a request of either signal by cluster, in order of first appearance.
///
/// A request of one cluster is returned as it is, sharing its bytes; one without resources gives no part.
pub fn by_cluster(request: &Bytes) -> Vec<ClusterPart> {
    let mut groups: Vec<Group<'_>> = Vec::new();
    let mut index = HashMap::new();
    for field in Fields::new(request).filter(|field| field.key == key(1, LEN)) {
        let block = Block::new(field.value);
        let cluster = Identity::of(ResourceView::new(block.head.unwrap_or_default())).cluster;
        let group = *index.entry(cluster).or_insert_with(|| {
            groups.push(Group { cluster, blocks: Vec::new(), items: 0 });
            groups.len() - 1
        });
        groups[group].items += block.items().map(count).sum::<u64>();
        groups[group].blocks.push(field.raw);
    }
    let alone = groups.len() == 1;
    groups
        .into_iter()
        .map(|group| ClusterPart {
            cluster: group.cluster.map(str::to_owned),
            value: if alone { request.clone() } else { group.blocks.concat().into() },
            items: group.items,
        })
        .collect()
}

/// Items of a scope block.
fn count(scope: &[u8]) -> u64 {
    Repeated::<&[u8]>::new(scope, 2).count() as u64
}
