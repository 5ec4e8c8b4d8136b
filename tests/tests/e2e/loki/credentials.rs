//! Tokens that expire.

use std::time::Duration;

use afflux_tests::afflux::Afflux;
use afflux_tests::load::Load;
use afflux_tests::loki::{self, Access, Loki};
use afflux_tests::oauth::{CLIENT_ID, CLIENT_SECRET, TokenEndpoint};

use super::{acked, holds, options, send};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_that_expires_or_is_revoked_is_renewed_and_nobody_notices() -> anyhow::Result<()> {
    let dir = tempfile::tempdir()?;
    let (loki, issuer) =
        (Loki::start(loki::Options::default()).await?, TokenEndpoint::start(Duration::from_secs(4)).await?);
    loki.admit(Access::Issued(issuer.issued()));
    let secret = dir.path().join("secret");
    std::fs::write(&secret, CLIENT_SECRET)?;
    let options = options(dir.path(), &loki)
        .env("AFFLUX__SINKS__LOKI__AUTH__OAUTH2__TOKEN_URL", issuer.url())
        .env("AFFLUX__SINKS__LOKI__AUTH__OAUTH2__CLIENT_ID", CLIENT_ID)
        .env("AFFLUX__SINKS__LOKI__AUTH__OAUTH2__CLIENT_SECRET_FILE", secret.display().to_string());
    let afflux = Afflux::start(dir.path(), &options).await?;
    let load = Load::new(rand::random());
    for round in 0..10 {
        send(&load, &afflux, 2).await;
        tokio::time::sleep(Duration::from_millis(500)).await;
        assert_eq!(afflux.problem().await?, None, "in round {round}");
        // Again where a slow machine had it renewed before it was sent.
        if round >= 2 && loki.count("unauthenticated") == 0 {
            issuer.issued().revoke();
        }
    }
    holds(&loki, &load, &acked(&load)).await?;
    assert!(issuer.issued().count() >= 3, "{} tokens", issuer.issued().count());
    assert!(loki.count("unauthenticated") > 0, "the revoked token was never sent");
    assert_eq!((afflux.dead_letters()?.len(), loki.found().doubled()), (0, 0), "given up, or doubled");
    for text in [afflux.log(), afflux.ask("metrics").await?.1, afflux.ask("status").await?.1] {
        assert!(!text.contains(CLIENT_SECRET) && !text.contains("token-"), "a secret is shown");
    }
    afflux.stop().await
}
