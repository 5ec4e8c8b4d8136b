//! The embedded bus passes the suite.

use std::sync::{Arc, Mutex};

use afflux_bus::conformance::Subject;
use afflux_bus::local::{LocalBus, LocalConfig};
use afflux_bus::{Bus, BusError};
use async_trait::async_trait;
use tempfile::TempDir;

/// One directory, opened once at a time.
struct Local {
    dir: TempDir,
    open: Mutex<Option<Arc<dyn Bus>>>,
}

async fn local() -> Option<Local> {
    Some(Local { dir: tempfile::tempdir().expect("a directory"), open: Mutex::new(None) })
}

const MAX_RECORD_BYTES: usize = 512 * 1024;

#[async_trait]
impl Subject for Local {
    async fn open(&self) -> Arc<dyn Bus> {
        let mut open = self.open.lock().expect("no panic");
        let start = || {
            let small = LocalConfig {
                max_record_bytes: MAX_RECORD_BYTES,
                segment_bytes: 64 * 1024,
                ..LocalConfig::new(self.dir.path())
            };
            LocalBus::open(small).expect("a bus") as Arc<dyn Bus>
        };
        Arc::clone(open.get_or_insert_with(start))
    }

    async fn reopen(&self, bus: Arc<dyn Bus>) -> Arc<dyn Bus> {
        bus.close().await;
        drop(bus);
        *self.open.lock().expect("no panic") = None;
        self.open().await
    }

    async fn open_unreachable(&self) -> Option<Result<Arc<dyn Bus>, BusError>> {
        None
    }

    fn max_record_bytes(&self) -> usize {
        MAX_RECORD_BYTES
    }

    fn compacts_soon(&self) -> bool {
        true
    }

    async fn tidy(&self, _: &dyn Bus) {}
}

afflux_bus::conformance_suite!(local);
