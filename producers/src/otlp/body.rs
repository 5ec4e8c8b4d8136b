//! Reading a request's body under its limits.

use std::time::Duration;

use bytes::Bytes;
use http_body::Body;
use http_body_util::BodyExt;
use tokio::time::{Instant, timeout, timeout_at};

use super::memory::{Buffer, Held, Memory};
use super::refusal::Refusal;

/// How long a client may go on sending a body that was refused, before the answer is sent all the same.
const DRAIN: Duration = Duration::from_secs(1);

/// What a body may take.
#[derive(Clone, Copy, Debug)]
pub(super) struct Allowance {
    /// Most bytes of the request.
    pub(super) bytes: usize,
    /// Bytes of framing around it.
    pub(super) framing: usize,
    /// Time for the whole of it.
    pub(super) time: Duration,
}

/// Reads a body to its end.
///
/// `expected` sees what has arrived so far and says how long the whole will be (0 where it cannot tell) or why not
/// to read on.
pub(super) async fn read<B>(
    body: &mut B,
    allowance: Allowance,
    memory: &Memory,
    expected: impl Fn(&[u8]) -> Result<usize, Refusal>,
) -> Result<Held, Refusal>
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: std::fmt::Display,
{
    let deadline = Instant::now() + allowance.time;
    let limit = allowance.bytes.saturating_add(allowance.framing);
    let mut buffer = Buffer::default();
    loop {
        let whole = expected(buffer.bytes())?;
        let frame = timeout_at(deadline, body.frame()).await.map_err(|_| Refusal::BodyTimeout(allowance.time))?;
        let Some(frame) = frame else {
            return Ok(buffer.finish());
        };
        let frame = frame.map_err(|error| Refusal::BodyBroken(error.to_string()))?;
        let Ok(data) = frame.into_data() else {
            continue;
        };
        if data.len() > limit - buffer.bytes().len() {
            return Err(Refusal::RequestTooLarge { limit: allowance.bytes });
        }
        let most = if whole == 0 { limit } else { whole };
        buffer.reserve(data.len(), whole, most, memory)?;
        buffer.bytes_mut().extend_from_slice(&data);
    }
}

/// Reads on and forgets, up to `limit` bytes and for a short time.
///
/// A client that is still sending when the connection closes sees a reset instead of the answer.
pub(super) async fn drain<B>(body: &mut B, limit: usize)
where
    B: Body<Data = Bytes> + Unpin,
{
    let all = async {
        let mut left = limit;
        while let Some(Ok(frame)) = body.frame().await {
            match left.checked_sub(frame.data_ref().map_or(0, Bytes::len)) {
                Some(rest) => left = rest,
                None => break,
            }
        }
    };
    // Whatever has not come by then is not waited for.
    let _ = timeout(DRAIN, all).await;
}
