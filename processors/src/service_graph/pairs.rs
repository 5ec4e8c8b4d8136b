//! The pairing of halves.

use std::collections::BTreeMap;
use std::sync::Arc;

use afflux_schemas::otlp::trace::SpanView;
use hashbrown::HashMap;

use super::edge::{Connection, Edge, Out, Side, SpanKind, Why};
use super::facts::{Key, ResourceFacts, Rules, key};
use super::half::{Arrival, End, Half};
use super::names::Names;

/// Client of a trace that begins at a server which does not tell who asks.
const USER: &str = "user";

/// Time of a half that never came.
const NEVER: i64 = i64::MIN;

/// The halves of one partition that wait; what they become is told in the [module](super)'s documentation.
///
/// It holds at most nine eighths of `max_items` halves, and the names and dimensions only of those whose request has
/// not been told. What is emitted depends on nothing but the spans that were passed in and their times.
pub struct Pairs {
    rules: Arc<Rules>,
    names: Names,
    waiting: HashMap<Key, Waiting>,
    /// Keys of what waits, by timestamp.
    due: BTreeMap<i64, Vec<Due>>,
    /// Halves that came, by eighth of `wait`.
    came: BTreeMap<i64, u64>,
}

/// What waits under a key. Times are timestamps of records, the greatest of each side.
struct Waiting {
    accepted: Times,
    rejected: Times,
    /// The half whose request has not been told: while it waits, whatever else comes tells it or is a duplicate.
    open: Option<Box<Half>>,
}

/// A half came under the key: the open one perhaps, which is told in its turn.
struct Due {
    key: Key,
    open: bool,
}

struct Times {
    client: i64,
    server: i64,
}

impl Pairs {
    /// Nothing waits.
    pub fn new(rules: Arc<Rules>) -> Self {
        let (waiting, due, came) = (HashMap::new(), BTreeMap::new(), BTreeMap::new());
        Self { rules, names: Names::new(), waiting, due, came }
    }

    /// Keys under which something waits or did when last told the time.
    pub fn len(&self) -> usize {
        self.waiting.len()
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Stream time has risen to `now_ms`, milliseconds since the Unix epoch: tells what has waited in vain, by
    /// timestamp and then as it came.
    pub fn advance(&mut self, now_ms: i64, emit: &mut dyn FnMut(Out)) {
        let over = now_ms.saturating_sub(self.rules.wait_ms);
        while let Some(first) = self.due.first_entry().filter(|first| *first.key() <= over) {
            let (time_ms, due) = first.remove_entry();
            due.iter().for_each(|due| self.expire(due, time_ms, emit));
        }
        let slot = over.div_euclid(self.rules.slot_ms);
        while let Some(first) = self.came.first_entry().filter(|first| *first.key() < slot) {
            first.remove();
        }
    }

    /// Takes in a span of a record that has timestamp `time_ms`, which stands for `weight` requests. Stream time is
    /// `now_ms`, as last told to [`advance`](Self::advance). Internal spans and those of no kind are ignored.
    pub fn span(
        &mut self,
        resource: &ResourceFacts<'_>,
        span: &SpanView<'_>,
        weight: u64,
        (time_ms, now_ms): (i64, i64),
        emit: &mut dyn FnMut(Out),
    ) {
        let Some(kind) = SpanKind::from_otlp(span.kind()) else { return };
        let over = now_ms.saturating_sub(self.rules.wait_ms);
        let out = match key(span, kind) {
            None => Err(Why::InvalidId),
            Some(_) if time_ms <= over => Err(Why::Late),
            Some(_) if !self.admit(time_ms) => Err(Why::Dropped),
            Some(key) if !self.rules.accepts(resource, span) => {
                self.reject(key, kind.side(), time_ms);
                Err(Why::Filtered)
            }
            Some(key) => self.pair(&Arrival { key, kind, resource, span, weight, time_ms }, over),
        };
        match out {
            Ok(None) => {}
            Ok(Some(edge)) => emit(Out::Edge(edge)),
            Err(why) => emit(Out::NoEdge { kind, why }),
        }
    }

    /// Counts a half, and tells whether it is among the first of its time.
    fn admit(&mut self, time_ms: i64) -> bool {
        let came = self.came.entry(time_ms.div_euclid(self.rules.slot_ms)).or_default();
        *came += 1;
        *came <= self.rules.max_per_slot
    }

    /// A half came that the filter rejects.
    fn reject(&mut self, key: Key, side: Side, time_ms: i64) {
        let waiting = self.waiting.entry(key).or_insert_with(Waiting::new);
        if let Some(half) = waiting.open.as_mut().filter(|half| half.kind.side() != side) {
            half.shunned = true;
        }
        let last = waiting.last();
        waiting.rejected.note(side, time_ms);
        if time_ms > last {
            self.due.entry(time_ms).or_default().push(Due { key, open: false });
        }
    }

    /// A half came: makes an edge with its counterpart, or by itself, or waits, or is a duplicate.
    fn pair(&mut self, half: &Arrival<'_>, over: i64) -> Result<Option<Edge>, Why> {
        let Arrival { key, kind, time_ms, .. } = *half;
        let Self { rules, names, waiting, due, .. } = self;
        let waiting = waiting.entry(key).or_insert_with(Waiting::new);
        let side = kind.side();
        let (told, last) = (waiting.accepted.any_after(over), waiting.last());
        waiting.accepted.note(side, time_ms);
        let counterpart = waiting.open.take_if(|half| half.kind.side() != side);
        if told && counterpart.is_none() {
            if time_ms > last {
                due.entry(time_ms).or_default().push(Due { key, open: false });
            }
            return Err(Why::Duplicate);
        }
        let facts = rules.span(half.resource, half.span, side);
        let mut half = Half::new(names, half, &facts);
        let edge = match (counterpart, &facts.database) {
            (_, Some(database)) => Some(half.with(End::Named(names.get(database)), Connection::Database, key, rules)),
            (Some(counterpart), None) => {
                let messaging = kind.is_messaging() || counterpart.kind.is_messaging();
                let connection = if messaging { Connection::MessagingSystem } else { Connection::Direct };
                Some(half.with(End::Span(&counterpart), connection, key, rules))
            }
            (None, None) => {
                half.peer = facts.peer.as_deref().map(|peer| names.get(peer));
                half.shunned = waiting.rejected.of(side.other()) > over;
                waiting.open = Some(Box::new(half));
                None
            }
        };
        let open = edge.is_none();
        if open || time_ms > last {
            due.entry(time_ms).or_default().push(Due { key, open });
        }
        Ok(edge)
    }

    /// What has that timestamp under the key waits no longer.
    fn expire(&mut self, due: &Due, time_ms: i64, emit: &mut dyn FnMut(Out)) {
        let key = due.key;
        let Some(waiting) = self.waiting.get_mut(&key) else { return };
        let open = waiting.open.take_if(|half| due.open && half.time_ms == time_ms);
        if waiting.open.is_none() && waiting.last() <= time_ms {
            self.waiting.remove(&key);
        }
        let Some(half) = open else { return };
        let root = key[16..] == [0; 8];
        let node = match half.kind.side() {
            Side::Server if root => Some(half.peer.clone().unwrap_or_else(|| self.names.get(USER))),
            Side::Server => None,
            Side::Client => half.peer.clone(),
        };
        emit(match node {
            _ if half.shunned => Out::NoEdge { kind: half.kind, why: Why::CounterpartFiltered },
            Some(node) if self.rules.virtual_nodes => {
                Out::Edge(half.with(End::Named(node), Connection::VirtualNode, key, &self.rules))
            }
            _ => Out::NoEdge { kind: half.kind, why: Why::Expired },
        });
    }
}

impl Waiting {
    fn new() -> Self {
        let never = || Times { client: NEVER, server: NEVER };
        Self { accepted: never(), rejected: never(), open: None }
    }

    fn last(&self) -> i64 {
        let Self { accepted, rejected, .. } = self;
        accepted.client.max(accepted.server).max(rejected.client).max(rejected.server)
    }
}

impl Times {
    const fn of(&self, side: Side) -> i64 {
        match side {
            Side::Client => self.client,
            Side::Server => self.server,
        }
    }

    const fn any_after(&self, over: i64) -> bool {
        self.client > over || self.server > over
    }

    fn note(&mut self, side: Side, time_ms: i64) {
        let last = match side {
            Side::Client => &mut self.client,
            Side::Server => &mut self.server,
        };
        *last = time_ms.max(*last);
    }
}
