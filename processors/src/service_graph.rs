//! The service graph: which services call which, found by pairing client and server spans.
//!
//! What becomes of spans follows the service-graphs processor of Grafana Tempo. A client's or producer's span and the
//! server's or consumer's span whose parent it is are two *halves* of a request, which meet under a key of trace id and
//! the client's span id, and make one [`Edge`]. A client's half that names a database makes an edge by itself. A half
//! that waits in vain makes an edge to a *virtual node*, if it tells what is on the other side, and is counted if not.
//!
//! # Time
//! Stream time is the only clock, as for every windowed processor (see [`window`](crate::window)). A half *waits* until
//! stream time is `wait` past the timestamp of its record; one that comes later than that makes nothing. Whether two
//! halves meet depends on their timestamps, and on stream time when they came, and not on what either has met before.
//!
//! # Once
//! A span may come twice, since clients send again what was not acknowledged. At most one edge is made where halves of
//! one key wait together:
//! - A half that comes while its counterpart waits makes the edge with it, unless that one's request has been told: it
//!   came as a repetition, or has made an edge.
//! - A half that comes while another one of its side and key waits, or meets a counterpart whose request has been told,
//!   is a duplicate: it is counted and makes nothing, neither now nor when it has waited in vain. It makes others
//!   duplicates all the same, so that none depends on whether an older one was a duplicate.
//!
//! So several servers under one client span, as consumers of one message are, make one edge: the first one's.
//! Copies that come more than `wait` apart are told twice.
//!
//! # Bounds
//! Time is cut into eighths of `wait`. Of the halves whose records lie in one of them, the first eighth of `max_items`
//! is taken, and the others are counted as dropped. Counting what came, rather than what waits, keeps the decision free
//! of what older halves have met.
//!
//! # Horizon
//! Say that a half with timestamp *t* came at stream time *c*. Whether it is a duplicate depends on the halves that
//! waited then, which are younger than *c* − `wait`. Whether it has waited in vain depends on those and on what came
//! until stream time was *t* + `wait`. Whether it makes an edge with its counterpart depends on what waited or came
//! while that one did, which is younger than *c* − 2 `wait`. So nothing decides that is older than twice `wait` when
//! the output is due. Whether one of those halves was dropped depends on others of its eighth of `wait`, and on nothing
//! else: [`Rules::horizon`] is twice `wait` and one eighth.

mod config;
mod edge;
mod edges;
mod facts;
mod half;
mod names;
mod pairs;
mod step;

pub use config::{GraphConfig, InvalidGraph, MAX_ATTRIBUTES};
pub use edge::{Connection, Edge, Out, Side, SpanKind, Why};
pub use facts::{Filter, ResourceFacts, Rules};
pub use pairs::Pairs;
pub use step::{NAME, ServiceGraph};

#[cfg(test)]
mod tests;
