//! Finding files: by pattern, and what rotation made of them.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::fs::{self, Metadata};
use std::path::{Component, Path, PathBuf};

use glob::{MatchOptions, Pattern};

use super::unpack::is_packed;

/// Depth to which `**` goes.
const DEPTH: usize = 16;

/// Wildcards do not match separators, nor the dot of hidden files.
const OPTIONS: MatchOptions =
    MatchOptions { case_sensitive: true, require_literal_separator: true, require_literal_leading_dot: true };

/// Which files are wanted.
#[derive(Clone, Debug)]
pub(super) struct Patterns {
    paths: Vec<Vec<Part>>,
    /// The same, as patterns of whole paths.
    whole: Vec<Pattern>,
    exclude: Vec<Pattern>,
}

/// One name of a path.
#[derive(Clone, Debug)]
enum Part {
    Literal(PathBuf),
    Wild(Pattern),
    /// Any number of folders.
    Deep,
}

/// What there is now.
#[derive(Debug, Default)]
pub(super) struct Found {
    /// Paths where files stood, or may have stood.
    known: BTreeSet<PathBuf>,
    /// Files, by the path that matched.
    pub(super) files: BTreeMap<PathBuf, Metadata>,
    /// Where links lead to, and the path that matched.
    pub(super) links: BTreeMap<PathBuf, PathBuf>,
    /// Directories in which changes matter.
    pub(super) dirs: BTreeSet<PathBuf>,
    /// Directories that cannot be listed, and why.
    pub(super) unreadable: BTreeMap<PathBuf, std::io::ErrorKind>,
}

impl Patterns {
    /// # Errors
    /// A pattern that is none, and what is wrong with it.
    pub(super) fn new(paths: &[String], exclude: &[String]) -> Result<Self, (String, glob::PatternError)> {
        let pattern = |text: &str| Pattern::new(text).map_err(|error| (text.to_owned(), error));
        let parts = |text: &String| {
            pattern(text)?;
            Path::new(text).components().map(|component| part(component, &pattern)).collect()
        };
        Ok(Self {
            paths: paths.iter().map(parts).collect::<Result<_, _>>()?,
            whole: paths.iter().map(|text| pattern(text)).collect::<Result<_, _>>()?,
            exclude: exclude.iter().map(|text| pattern(text)).collect::<Result<_, _>>()?,
        })
    }

    /// Looks for all of them, and for what rotation made of those that are known.
    pub(super) fn find<'a>(&self, known: impl Iterator<Item = &'a PathBuf>) -> Found {
        let wanted = |path: &&PathBuf| {
            let matches = |pattern: &Pattern| pattern.matches_path_with(path, OPTIONS);
            self.whole.iter().any(matches) && !self.exclude.iter().any(matches)
        };
        let mut found = Found { known: known.filter(wanted).cloned().collect(), ..Found::default() };
        for parts in &self.paths {
            self.walk(PathBuf::new(), parts, &mut found);
        }
        found
    }

    fn walk(&self, base: PathBuf, parts: &[Part], found: &mut Found) {
        let Some((part, rest)) = parts.split_first() else { return self.take(base, found) };
        match part {
            Part::Literal(name) => {
                if rest.is_empty() {
                    found.dirs.insert(base.clone());
                }
                self.walk(base.join(name), rest, found);
            }
            Part::Wild(pattern) => {
                for (name, _) in list(&base, found) {
                    if name.to_str().is_some_and(|name| pattern.matches_with(name, OPTIONS)) {
                        self.walk(base.join(name), rest, found);
                    }
                }
            }
            Part::Deep => self.deep(base, parts, found, DEPTH),
        }
    }

    fn deep(&self, base: PathBuf, parts: &[Part], found: &mut Found, depth: usize) {
        self.walk(base.clone(), &parts[1..], found);
        if depth == 0 {
            return;
        }
        for (name, is_dir) in list(&base, found) {
            // Positions are kept as text.
            if is_dir && name.to_str().is_some_and(|name| !name.starts_with('.')) {
                self.deep(base.join(name), parts, found, depth - 1);
            }
        }
    }

    fn take(&self, path: PathBuf, found: &mut Found) {
        if self.exclude.iter().any(|pattern| pattern.matches_path_with(&path, OPTIONS)) {
            return;
        }
        // What rotation compressed is read as such.
        let from = if is_packed(&path) { rotated_from(&path) } else { Vec::new() };
        if !from.is_empty() {
            return found.known.extend(from);
        }
        // Follows links; what is no file, or gone already, is none.
        let Ok(metadata) = fs::metadata(&path) else { return };
        if !metadata.is_file() {
            return;
        }
        if fs::symlink_metadata(&path).is_ok_and(|metadata| metadata.is_symlink())
            && let Ok(target) = fs::canonicalize(&path)
        {
            found.dirs.extend(target.parent().map(Path::to_owned));
            found.links.insert(target, path.clone());
        }
        found.files.insert(path, metadata);
    }
}

fn part<E>(component: Component<'_>, pattern: &impl Fn(&str) -> Result<Pattern, E>) -> Result<Part, E> {
    let name = Path::new(component.as_os_str());
    let Some(text) = name.to_str() else { return Ok(Part::Literal(name.to_owned())) };
    match text {
        "**" => Ok(Part::Deep),
        text if text.contains(['*', '?', '[']) => Ok(Part::Wild(pattern(text)?)),
        _ => Ok(Part::Literal(name.to_owned())),
    }
}

/// Names in a directory, and whether they are directories themselves. What is no directory has none.
fn list(dir: &Path, found: &mut Found) -> Vec<(PathBuf, bool)> {
    let entries = match fs::read_dir(if dir.as_os_str().is_empty() { Path::new(".") } else { dir }) {
        Ok(entries) => entries,
        Err(error) => {
            use std::io::ErrorKind::{NotADirectory, NotFound};
            if !matches!(error.kind(), NotADirectory | NotFound) {
                found.unreadable.insert(dir.to_owned(), error.kind());
            }
            return Vec::new();
        }
    };
    found.dirs.insert(dir.to_owned());
    let entry = |entry: fs::DirEntry| (entry.file_name().into(), entry.file_type().is_ok_and(|kind| kind.is_dir()));
    entries.flatten().map(entry).collect()
}

/// A file that rotation made of another one.
#[derive(Clone, Debug)]
pub(super) struct Rotated {
    /// The path that matched, of the file that was rotated.
    pub(super) of: PathBuf,
    pub(super) path: PathBuf,
    pub(super) metadata: Metadata,
}

impl Found {
    /// Files that rotation made of those that were found, and of those of known paths, whether or not one stands there
    /// now; oldest first: `0.log.20240101-000000`, `app.log.1`, `app.log-20240101`, each also with `.gz`. Those that match
    /// themselves are not among them.
    ///
    /// Whatever had left its path when this was found is among them.
    pub(super) fn rotated(&self) -> Vec<Rotated> {
        let places: BTreeMap<&Path, &Path> =
            self.links.iter().map(|(place, path)| (path.as_path(), place.as_path())).collect();
        let mut by_dir: BTreeMap<&Path, BTreeMap<&OsStr, &Path>> = BTreeMap::new();
        for path in self.known.iter().chain(self.files.keys()) {
            let place = places.get(path.as_path()).copied().unwrap_or(path);
            if let (Some(dir), Some(name)) = (place.parent(), place.file_name()) {
                by_dir.entry(dir).or_default().insert(name, path);
            }
        }
        let mut rotated = Vec::new();
        for (dir, names) in by_dir {
            let entries = fs::read_dir(if dir.as_os_str().is_empty() { Path::new(".") } else { dir });
            for entry in entries.into_iter().flatten().flatten() {
                let name = entry.file_name();
                let of = name.to_str().and_then(|name| bases(name).find_map(|base| names.get(OsStr::new(base))));
                let Some(of) = of else { continue };
                let path = dir.join(&name);
                if self.files.contains_key(&path) {
                    continue;
                }
                if let Some(metadata) = entry.metadata().ok().filter(Metadata::is_file) {
                    rotated.push(Rotated { of: (*of).to_owned(), path, metadata });
                }
            }
        }
        rotated.sort_by_cached_key(|rotated| (rotated.metadata.modified().ok(), rotated.path.clone()));
        rotated
    }
}

/// Names of the files that one with that name may have been rotated from.
fn bases(name: &str) -> impl Iterator<Item = &str> {
    let cuts = name.char_indices().filter(|(_, c)| matches!(c, '.' | '-' | '_'));
    cuts.map(|(at, _)| name.split_at(at)).filter(|(_, suffix)| is_suffix(suffix)).map(|(base, _)| base)
}

/// Paths of the files that one at that path may have been rotated from.
pub(super) fn rotated_from(path: &Path) -> Vec<PathBuf> {
    let name = path.file_name().and_then(OsStr::to_str).unwrap_or_default();
    bases(name).map(|base| path.with_file_name(base)).collect()
}

/// Whether that is what rotation puts behind a name.
fn is_suffix(suffix: &str) -> bool {
    let suffix = suffix.strip_suffix(".gz").unwrap_or(suffix);
    let Some(rest) = suffix.strip_prefix(['.', '-', '_']) else { return false };
    matches!(rest, "old" | "bak" | "prev")
        || rest.starts_with(|c: char| c.is_ascii_digit())
            && rest.chars().all(|c| c.is_ascii_digit() || matches!(c, 'T' | 'Z' | '-' | '_' | '.' | ':'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree(paths: &[&str]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        for path in paths {
            let path = dir.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "x").unwrap();
        }
        dir
    }

    fn find(dir: &Path, paths: &[&str], exclude: &[&str]) -> (Vec<String>, Found) {
        let full = |paths: &[&str]| paths.iter().map(|path| format!("{}/{path}", dir.display())).collect::<Vec<_>>();
        let found = Patterns::new(&full(paths), &full(exclude)).unwrap().find([].iter());
        let name = |path: &PathBuf| path.strip_prefix(dir).unwrap().display().to_string();
        (found.files.keys().map(name).collect(), found)
    }

    #[test]
    fn patterns_match_names_and_folders_and_what_is_excluded_is_left_out() {
        let dir = tree(&["a/1.log", "a/2.txt", "b/1.log", "b/c/d/3.log", ".h/1.log", "a/.x.log"]);
        assert_eq!(find(dir.path(), &["*/*.log"], &[]).0, ["a/1.log", "b/1.log"]);
        assert_eq!(find(dir.path(), &["**/*.log"], &["b/*/**"]).0, ["a/1.log", "b/1.log"]);
        assert_eq!(find(dir.path(), &["a/[12].*", "a/1.log"], &[]).0, ["a/1.log", "a/2.txt"]);
        assert_eq!(find(dir.path(), &["a/nothing", "b"], &[]).0, [""; 0]);
        assert_eq!(Patterns::new(&["/a/[".into()], &[]).unwrap_err().0, "/a/[");
    }

    #[test]
    fn links_are_followed_and_the_directories_of_both_ends_matter() {
        let dir = tree(&["pods/0.log"]);
        fs::create_dir(dir.path().join("links")).unwrap();
        let link = |target: &Path, name: &str| {
            std::os::unix::fs::symlink(target, dir.path().join("links").join(name)).unwrap();
        };
        link(&dir.path().join("pods/0.log"), "a.log");
        link(&dir.path().join("pods/none.log"), "dangling.log");
        link(dir.path(), "folder.log");
        let (names, found) = find(dir.path(), &["links/*.log"], &[]);
        assert_eq!(names, ["links/a.log"]);
        let real = fs::canonicalize(dir.path()).unwrap();
        assert!(found.dirs.contains(&dir.path().join("links")) && found.dirs.contains(&real.join("pods")), "{found:?}");
    }

    #[test]
    fn rotation_is_told_by_what_it_puts_behind_a_name() {
        let names =
            ["0.log", "0.log.20240101-000000", "0.log.1", "0.log-2024.gz", "0.log.old", "0.log.json", "10.log.1"];
        let dir = tree(&names);
        let patterns = ["0.log", "10.log"].map(|name| dir.path().join(name).display().to_string());
        let known = ["10.log", "elsewhere.log"].map(|name| dir.path().join(name));
        let found = Patterns::new(&patterns, &[]).unwrap().find(known.iter());
        let mut found: Vec<_> = found
            .rotated()
            .into_iter()
            .map(|rotated| rotated.path.file_name().unwrap().to_str().unwrap().to_owned())
            .collect();
        found.sort();
        assert_eq!(found, ["0.log-2024.gz", "0.log.1", "0.log.20240101-000000", "0.log.old", "10.log.1"]);
        assert_eq!(rotated_from(Path::new("/a/0.log.1")), [Path::new("/a/0.log")]);
        assert_eq!(rotated_from(Path::new("/a/b-1.2")), [Path::new("/a/b"), Path::new("/a/b-1")]);
        assert!(rotated_from(Path::new("/a/0.log")).is_empty());
    }

    #[test]
    fn what_was_rotated_lies_beside_the_file_that_a_link_leads_to() {
        let dir = tree(&["pods/0.log", "pods/0.log.1", "links/a.log.1"]);
        std::os::unix::fs::symlink(dir.path().join("pods/0.log"), dir.path().join("links/a.log")).unwrap();
        let (_, found) = find(dir.path(), &["links/*.log"], &[]);
        let rotated = found.rotated();
        assert_eq!(rotated.len(), 1);
        assert!(rotated[0].path.ends_with("pods/0.log.1") && rotated[0].of.ends_with("links/a.log"), "{rotated:?}");
    }
}
