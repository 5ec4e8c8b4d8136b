//! A TCP proxy between a client and a Kafka broker, which cuts connections, holds requests and loses answers.
//!
//! It knows of the protocol only what it needs: frames begin with their length; a request goes on with its API key
//! and version and its correlation id, an answer with that id.

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, AtomicU16, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anyhow::{Context as _, ensure};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// A frame beyond this is no Kafka.
const MAX_FRAME: usize = 128 << 20;

/// Requests that a proxy can be told to treat badly, by their key in the protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(i16)]
pub enum Api {
    /// Records are written.
    Produce = 0,
    /// A group's offsets join a transaction.
    AddOffsetsToTxn = 25,
    /// A transaction is committed or aborted.
    EndTxn = 26,
    /// The offsets themselves are written.
    TxnOffsetCommit = 28,
}

/// A listener on a free port of the loopback. Everything ends when it is dropped.
#[derive(Debug)]
pub struct Proxy {
    port: u16,
    state: Arc<State>,
    accepting: tokio::task::JoinHandle<()>,
}

#[derive(Debug)]
struct State {
    broker: AtomicU16,
    refusing: AtomicBool,
    refuse_with_loss: AtomicBool,
    /// The API whose next answer is lost.
    losing: Mutex<Option<Api>>,
    lost: AtomicUsize,
    /// The API whose next request is held.
    holding: Mutex<Option<Api>>,
    held: AtomicUsize,
    /// The broker's answer to the last request that was held, from behind its correlation id.
    answer: Mutex<Option<Vec<u8>>>,
    released: watch::Sender<u64>,
    /// Raised to end every connection that exists.
    cuts: watch::Sender<u64>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl State {
    fn takes(slot: &Mutex<Option<Api>>, key: i16) -> bool {
        lock(slot).take_if(|api| *api as i16 == key).is_some()
    }
}

impl Proxy {
    /// Listens; [`Proxy::forward_to`] says to whom.
    pub async fn bind() -> anyhow::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let port = listener.local_addr()?.port();
        let state = Arc::new(State {
            broker: AtomicU16::new(0),
            refusing: AtomicBool::new(false),
            refuse_with_loss: AtomicBool::new(false),
            losing: Mutex::default(),
            lost: AtomicUsize::new(0),
            holding: Mutex::default(),
            held: AtomicUsize::new(0),
            answer: Mutex::default(),
            released: watch::Sender::new(0),
            cuts: watch::Sender::new(0),
        });
        let shared = Arc::clone(&state);
        let accepting = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                if !shared.refusing.load(Ordering::Acquire) {
                    tokio::spawn(connection(client, Arc::clone(&shared)));
                }
            }
        });
        Ok(Self { port, state, accepting })
    }

    /// Where clients connect to.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The broker's own port.
    pub fn forward_to(&self, port: u16) {
        self.state.broker.store(port, Ordering::Release);
    }

    /// Ends every connection at once.
    pub fn cut(&self) {
        self.state.cuts.send_modify(|cuts| *cuts += 1);
    }

    /// Whether new connections are closed at once.
    pub fn refuse(&self, refuse: bool) {
        self.state.refusing.store(refuse, Ordering::Release);
    }

    /// The next request of that kind reaches the broker, and its connection ends in place of the answer; with `refuse`
    /// new ones are refused from then on.
    pub fn lose_answer(&self, api: Api, refuse: bool) {
        self.state.refuse_with_loss.store(refuse, Ordering::Release);
        *lock(&self.state.losing) = Some(api);
    }

    /// Answers lost so far.
    pub fn lost(&self) -> usize {
        self.state.lost.load(Ordering::Acquire)
    }

    /// The next request of that kind waits here, and its connection with it, until [`Proxy::release`].
    pub fn hold(&self, api: Api) {
        *lock(&self.state.answer) = None;
        *lock(&self.state.holding) = Some(api);
    }

    /// Requests held so far.
    pub fn held(&self) -> usize {
        self.state.held.load(Ordering::Acquire)
    }

    /// What the broker answered to the last request that was held and let go on, without length and correlation id.
    pub fn answer(&self) -> Option<Vec<u8>> {
        lock(&self.state.answer).clone()
    }

    /// Lets the held request go on.
    pub fn release(&self) {
        self.state.released.send_modify(|released| *released += 1);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.accepting.abort();
        self.cut();
    }
}

/// Correlation ids of one connection whose answers are dealt with in another way.
#[derive(Debug, Default)]
struct Marked {
    /// To be lost.
    lost: HashSet<i32>,
    /// To be kept a copy of.
    kept: HashSet<i32>,
}

async fn connection(client: TcpStream, state: Arc<State>) {
    let mut cuts = state.cuts.subscribe();
    let broker = ("127.0.0.1", state.broker.load(Ordering::Acquire));
    let Ok(broker) = TcpStream::connect(broker).await else { return };
    let (from_client, to_client) = client.into_split();
    let (from_broker, to_broker) = broker.into_split();
    let marked = Mutex::new(Marked::default());
    // Whichever way ends first ends the connection.
    tokio::select! {
        _ = requests(from_client, to_broker, &state, &marked) => {}
        _ = answers(from_broker, to_client, &state, &marked) => {}
        _ = cuts.changed() => {}
    }
}

async fn requests(
    mut client: OwnedReadHalf,
    mut broker: OwnedWriteHalf,
    state: &State,
    marked: &Mutex<Marked>,
) -> anyhow::Result<()> {
    loop {
        let frame = frame(&mut client).await?;
        let key = i16::from_be_bytes(frame.get(4..6).context("no API key")?.try_into()?);
        let correlation = i32::from_be_bytes(frame.get(8..12).context("no correlation id")?.try_into()?);
        if State::takes(&state.holding, key) {
            let mut released = state.released.subscribe();
            state.held.fetch_add(1, Ordering::AcqRel);
            released.changed().await?;
            lock(marked).kept.insert(correlation);
        }
        if State::takes(&state.losing, key) {
            lock(marked).lost.insert(correlation);
        }
        broker.write_all(&frame).await?;
    }
}

async fn answers(
    mut broker: OwnedReadHalf,
    mut client: OwnedWriteHalf,
    state: &State,
    marked: &Mutex<Marked>,
) -> anyhow::Result<()> {
    loop {
        let frame = frame(&mut broker).await?;
        let correlation = i32::from_be_bytes(frame.get(4..8).context("no correlation id")?.try_into()?);
        if lock(marked).kept.remove(&correlation) {
            *lock(&state.answer) = Some(frame[8..].to_vec());
        }
        if lock(marked).lost.remove(&correlation) {
            if state.refuse_with_loss.load(Ordering::Acquire) {
                state.refusing.store(true, Ordering::Release);
                state.cuts.send_modify(|cuts| *cuts += 1);
            }
            state.lost.fetch_add(1, Ordering::AcqRel);
            return Ok(());
        }
        client.write_all(&frame).await?;
    }
}

/// One frame with its length in front.
async fn frame(from: &mut OwnedReadHalf) -> anyhow::Result<Vec<u8>> {
    let mut length = [0; 4];
    from.read_exact(&mut length).await?;
    let size = usize::try_from(i32::from_be_bytes(length))?;
    ensure!(size <= MAX_FRAME, "a frame of {size} bytes");
    let mut frame = vec![0; 4 + size];
    frame[..4].copy_from_slice(&length);
    from.read_exact(&mut frame[4..]).await?;
    Ok(frame)
}
