//! What is missing is named.

use std::time::Duration;

use afflux_tests::afflux::{Afflux, Options};

use super::{SETTLE, World, publishes};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_permission_that_is_missing_is_named_by_verb_and_resource_and_waited_for() -> anyhow::Result<()> {
    let world = World::new("").await?;
    world.happen(0..3, 1);
    world.server.forbid(&[("list", "events"), ("get", "namespaces")]);
    let afflux = world.start().await?;
    afflux.says("grant the verb `get` on the resource `namespaces`", SETTLE).await?;
    world.server.forbid(&[("list", "events")]);
    afflux.says("grant the verb `list` on the resource `events`", SETTLE).await?;
    let status = reqwest::get(format!("http://127.0.0.1:{}/status", afflux.admin)).await?.text().await?;
    assert!(status.contains("grant the verb `list` on the resource `events`"), "{status}");
    world.server.forbid(&[("watch", "events")]);
    publishes(&afflux, 3).await?;
    afflux.says("grant the verb `watch` on the resource `events`", SETTLE).await?;
    world.server.forbid(&[]);
    world.happen(3..4, 1);
    publishes(&afflux, 4).await?;
    afflux.stop().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_kubeconfig_that_does_not_exist_or_has_no_such_context_is_named() -> anyhow::Result<()> {
    let dir = tempfile::tempdir()?;
    let world = World::new("").await?;
    let good = world.dir.path().join("kubeconfig").display().to_string();
    for (kubernetes, said) in [
        ("kubeconfig: /nowhere/config".to_owned(), "kubeconfig /nowhere/config: "),
        (format!("kubeconfig: {good}, context: other"), "other"),
    ] {
        let bus = dir.path().join("bus");
        let yaml = format!("bus: {{local: {{dir: {}}}}}\nproducers: {{kubernetes: {{{kubernetes}}}}}", bus.display());
        let mut afflux = Afflux::spawn(dir.path(), &Options::run("producers.kubernetes").config(&yaml))?;
        let status = tokio::time::timeout(Duration::from_secs(60), afflux.wait()).await??;
        assert_eq!(status.code(), Some(1), "{}", afflux.log());
        assert!(afflux.log().contains(said), "{}", afflux.log());
        assert!(afflux.log().contains("producers.kubernetes"), "{}", afflux.log());
    }
    Ok(())
}
