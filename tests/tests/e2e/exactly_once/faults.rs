//! What may happen to processors, their broker and the network between them.

use std::time::Duration;

use afflux_tests::proxy::{Api, Proxy};
use rand::Rng;
use rand::rngs::StdRng;

use super::stage::{SESSION, Stage, TIMEOUT};

/// Milliseconds for which something is away, at most.
const AWAY: std::ops::Range<u64> = 0..2500;
/// How long the loss of an answer waits for a request whose answer it could be.
const REQUEST: Duration = Duration::from_secs(10);

/// A kind of fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// SIGKILL, and a new process under the same identity.
    Kill,
    /// SIGSTOP for longer than the session lasts, then SIGCONT: a zombie.
    Freeze,
    /// The broker is killed and started again.
    Broker,
    /// One more member.
    Join,
    /// A member goes in peace.
    Leave,
    /// All connections of one member end, and for a while there are no new ones.
    Cut,
    /// The answer to a request of a transaction is lost after the broker has done what it asks.
    LostAnswer,
    /// The answer to a commit is lost, and the broker is out of reach until the member has given up waiting: it cannot
    /// know whether its transaction happened.
    UnknownOutcome,
}

impl Fault {
    pub(crate) const KINDS: [Self; 8] = [
        Self::Kill,
        Self::Freeze,
        Self::Broker,
        Self::Join,
        Self::Leave,
        Self::Cut,
        Self::LostAnswer,
        Self::UnknownOutcome,
    ];

    /// Lets it happen, and ends it.
    pub(crate) async fn strike(self, stage: &mut Stage<'_>, random: &mut StdRng) -> anyhow::Result<()> {
        let victim = random.random_range(0..stage.members.len());
        let away = Duration::from_millis(random.random_range(AWAY));
        let slot = stage.members[victim].slot;
        match self {
            Self::Kill => {
                stage.members.remove(victim).process.kill()?;
                tokio::time::sleep(away).await;
                stage.spawn(slot)?;
            }
            Self::Freeze => {
                stage.members[victim].process.signal("STOP")?;
                tokio::time::sleep(SESSION + away).await;
                stage.members[victim].process.signal("CONT")?;
            }
            Self::Broker => {
                let kafka = &stage.site.kafka;
                kafka.kill()?;
                tokio::time::sleep(away).await;
                tokio::task::block_in_place(|| kafka.restart())?;
            }
            Self::Join => match stage.free_slot() {
                Some(slot) => stage.spawn(slot)?,
                None => stage.members.remove(victim).process.stop().await?,
            },
            Self::Leave if stage.members.len() > 1 => stage.members.remove(victim).process.stop().await?,
            Self::Leave => {}
            Self::Cut => {
                let proxy = &stage.site.proxies[slot];
                proxy.refuse(true);
                proxy.cut();
                tokio::time::sleep(away).await;
                proxy.refuse(false);
            }
            Self::LostAnswer => {
                let apis = [Api::EndTxn, Api::EndTxn, Api::TxnOffsetCommit, Api::AddOffsetsToTxn, Api::Produce];
                lose(&stage.site.proxies[slot], apis[random.random_range(0..apis.len())], false).await;
            }
            Self::UnknownOutcome => {
                let proxy = &stage.site.proxies[slot];
                lose(proxy, Api::EndTxn, true).await;
                tokio::time::sleep(TIMEOUT + away / 4).await;
                proxy.refuse(false);
            }
        }
        Ok(())
    }
}

/// Waits until the answer to a request of that kind is lost; a member without a partition sends none.
async fn lose(proxy: &Proxy, api: Api, refuse: bool) {
    let before = proxy.lost();
    proxy.lose_answer(api, refuse);
    let lost = async {
        while proxy.lost() == before {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    if tokio::time::timeout(REQUEST, lost).await.is_err() {
        eprintln!("no {api:?} came by");
    }
}
