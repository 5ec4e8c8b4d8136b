//! The Parquet files below the folders of a table that survive pruning.

use datafusion::common::Result;
use futures::stream::{self, StreamExt, TryStreamExt};
use object_store::path::Path;
use object_store::{ListResult, ObjectMeta};

use crate::error::QueryError;
use crate::layout::{Folder, Level};
use crate::prune::Pruner;
use crate::store::Place;

/// Folders listed at the same time: an object store answers one in tens of milliseconds.
const CONCURRENT_LISTINGS: usize = 64;

/// A file, and the folder whose values its rows have.
#[derive(Debug)]
pub(crate) struct Listed {
    pub(crate) meta: ObjectMeta,
    pub(crate) folder: Folder,
}

/// Lists a table level by level and goes down only where the predicates leave something to find, so that a query
/// about an hour costs the same listings in a lake of a day and of ten years. Ordered by path within a level.
///
/// Names beginning with `_` or `.` are skipped, as by every reader of this layout.
pub(crate) async fn files(place: &Place, table: &Path, pruner: &Pruner) -> Result<Vec<Listed>> {
    let mut folders = vec![(table.clone(), Folder::default())];
    for level in Level::ALL {
        let mut below = Vec::new();
        let mut listings = listings(place, folders);
        while let Some((folder, listed)) = listings.try_next().await? {
            for path in listed.common_prefixes.into_iter().filter(visible) {
                let name = path.filename().unwrap_or_default();
                let Some(entered) = folder.enter(level, name) else {
                    return Err(QueryError::Layout { folder: place.name_of(&path), column: level.column() }.into());
                };
                below.push((path, entered));
            }
        }
        let keep = pruner.keep(level, &below.iter().map(|(_, folder)| folder.clone()).collect::<Vec<_>>())?;
        folders = below.into_iter().zip(keep).filter(|(_, keep)| *keep).map(|(folder, _)| folder).collect();
    }
    let mut files = Vec::new();
    let mut listings = listings(place, folders);
    while let Some((folder, listed)) = listings.try_next().await? {
        let parquet = |meta: &ObjectMeta| visible(&meta.location) && meta.location.extension() == Some("parquet");
        let found = listed.objects.into_iter().filter(parquet);
        files.extend(found.map(|meta| Listed { meta, folder: folder.clone() }));
    }
    Ok(files)
}

fn listings(
    place: &Place,
    folders: Vec<(Path, Folder)>,
) -> impl stream::Stream<Item = std::result::Result<(Folder, ListResult), QueryError>> + Send + Unpin + '_ {
    let list = move |(path, folder): (Path, Folder)| async move {
        let listed = place.store.list_with_delimiter(Some(&path)).await;
        listed
            .map(|listed| (folder, listed))
            .map_err(|error| QueryError::Store { location: place.name_of(&path), source: error.into() })
    };
    Box::pin(stream::iter(folders).map(list).buffered(CONCURRENT_LISTINGS))
}

fn visible(path: &Path) -> bool {
    !path.filename().unwrap_or_default().starts_with(['_', '.'])
}
