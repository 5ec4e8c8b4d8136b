//! One run of a journey: which spans happen, when, and which of them fail.

use super::facts::Placed;
use super::random::{Ids, LogNormal, Random};
use super::shop::Shop;

/// Median delay between a message's sending and its receiving, in nanoseconds.
const QUEUEING: u64 = 6_000_000;

/// Plans traces. Times are nanoseconds since the beginning of the trace.
#[derive(Debug)]
pub(super) struct Planner {
    random: Random,
    ids: Ids,
    steady: LogNormal,
    tailed: LogNormal,
}

/// A trace's spans as they are placed.
#[derive(Debug, Default)]
pub(super) struct Plan {
    /// Parents before children.
    pub(super) spans: Vec<Placed>,
    /// When the last span ends.
    pub(super) latest: u64,
    /// Spans that sent an order to the topic.
    pub(super) announced: Vec<u64>,
}

impl Planner {
    pub(super) fn new(seed: u64) -> Self {
        Self {
            random: Random::new(seed, 2),
            ids: Ids::new(seed, 3),
            steady: LogNormal::new(0.35),
            tailed: LogNormal::new(1.0),
        }
    }

    /// Fills an empty plan with a run of the journey that begins at that node.
    pub(super) fn plan(&mut self, shop: &Shop, root: u32, plan: &mut Plan) {
        self.place(shop, plan, root, 0, 0);
    }

    /// Places an operation and all that follows from it; returns where it stands in the plan.
    fn place(&mut self, shop: &Shop, plan: &mut Plan, index: u32, parent: u64, start: u64) -> usize {
        let node = &shop.nodes[index as usize];
        let at = plan.spans.len();
        let id = self.ids.next();
        plan.spans.push(Placed { node: index, id, parent, start, end: start, failed: false });

        let latency = if node.tailed { &self.tailed } else { &self.steady };
        let own = latency.around(node.median, self.random.next());
        let gap = own / (node.calls.len() as u64 + 1);
        let (mut cursor, mut latest) = (start + gap, start + own);
        let mut failed = self.random.chance(node.failure);
        'calls: for call in &node.calls {
            let callee = &shop.nodes[*call as usize];
            if !self.random.chance(callee.share) {
                continue;
            }
            for _ in 0..=self.random.below(callee.repeats) {
                let placed = self.place(shop, plan, *call, id, cursor);
                let ended = plan.spans[placed];
                latest = latest.max(ended.end + gap);
                if !node.at_once {
                    cursor = ended.end + gap;
                }
                if ended.failed && !node.recovers {
                    failed = true;
                    break 'calls;
                }
            }
        }
        plan.spans[at].end = latest;
        plan.spans[at].failed = failed;
        plan.latest = plan.latest.max(latest);
        if !failed {
            self.deliver(shop, plan, index, at);
        }
        at
    }

    /// Places what receives the message of a producer.
    fn deliver(&mut self, shop: &Shop, plan: &mut Plan, index: u32, at: usize) {
        let node = &shop.nodes[index as usize];
        let sent = plan.spans[at];
        if node.announces {
            plan.announced.push(sent.id);
        }
        for consumer in &node.consumers {
            let queued = self.tailed.around(QUEUEING, self.random.next());
            self.place(shop, plan, *consumer, sent.id, sent.end + queued);
        }
    }
}
