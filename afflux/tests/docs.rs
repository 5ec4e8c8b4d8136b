//! The documentation is true: its configurations are valid, its commands exist, its links lead somewhere.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// Every page by its path from the root, and its text.
fn pages() -> Vec<(String, String)> {
    let mut pages = Vec::new();
    let mut left = vec![root().join("docs")];
    while let Some(dir) = left.pop() {
        for entry in std::fs::read_dir(dir).expect("a directory") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                left.push(path);
            } else if path.extension().is_some_and(|extension| extension == "md") {
                pages.push(path);
            }
        }
    }
    pages.extend(["README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "SECURITY.md"].map(|name| root().join(name)));
    pages.sort();
    let named = |path: &PathBuf| path.strip_prefix(root()).expect("below the root").display().to_string();
    pages.iter().map(|path| (named(path), std::fs::read_to_string(path).expect("text"))).collect()
}

/// Fenced blocks of a language, each with its number.
fn blocks<'t>(text: &'t str, language: &str) -> Vec<&'t str> {
    let mut blocks = Vec::new();
    let mut rest = text;
    while let Some((_, fenced)) = rest.split_once("\n```") {
        let Some((info, body)) = fenced.split_once('\n') else { break };
        let Some((block, after)) = body.split_once("\n```") else { break };
        if info == language {
            blocks.push(block);
        }
        rest = after;
    }
    blocks
}

fn run(args: &[&str]) -> (Option<i32>, String, String) {
    let Output { status, stdout, stderr } =
        Command::new(env!("CARGO_BIN_EXE_afflux")).args(args).output().expect("the binary starts");
    (status.code(), String::from_utf8_lossy(&stdout).into_owned(), String::from_utf8_lossy(&stderr).into_owned())
}

#[test]
fn every_configuration_is_valid() {
    let file = tempfile::tempdir().expect("dir").keep().join("afflux.yaml");
    let mut checked = 0;
    for (name, text) in pages() {
        for block in blocks(&text, "yaml") {
            std::fs::write(&file, block).expect("written");
            let (code, _, errors) = run(&["config", "check", &file.display().to_string()]);
            assert_eq!(code, Some(0), "{name}: {errors}\n{block}");
            checked += 1;
        }
    }
    std::fs::remove_dir_all(file.parent().expect("its directory")).expect("removed");
    assert!(checked > 20, "{checked} configurations");
}

#[test]
fn the_reference_of_the_configuration_is_what_the_program_prints() {
    let page = std::fs::read_to_string(root().join("docs/configuration.md")).expect("the page");
    let (_, printed, _) = run(&["config", "default"]);
    let found = blocks(&page, "yaml");
    assert!(found.iter().any(|block| *block == printed.trim_end()), "renew it with `afflux config default`");
}

/// Words of a command line up to the first option or argument.
fn words(line: &str) -> Vec<&str> {
    let is_word = |word: &&str| word.chars().all(|c| c.is_ascii_lowercase() || c == '-') && !word.starts_with('-');
    line.split_whitespace().skip(1).take_while(is_word).collect()
}

#[test]
fn every_command_of_the_program_exists_with_its_options() {
    let mut checked = 0;
    for (name, text) in pages() {
        let all = blocks(&text, "sh").join("\n").replace("\\\n", " ");
        for line in all.lines().map(str::trim).filter(|line| line.starts_with("afflux ")) {
            let line = line.split(['#', '|', '>', '"']).next().unwrap_or_default();
            let mut command = words(line);
            let help = loop {
                let (code, help, _) = run(&[&command[..], &["--help"]].concat());
                if code == Some(0) {
                    break help;
                }
                assert!(command.pop().is_some(), "{name}: {line}");
            };
            assert!(!command.is_empty(), "{name}: {line}: there is no such command");
            for option in line.split_whitespace().filter(|word| word.starts_with("--")) {
                let option = option.split('=').next().unwrap_or_default();
                assert!(help.contains(option), "{name}: {line}: `{}` has no {option}", command.join(" "));
            }
            checked += 1;
        }
    }
    assert!(checked > 20, "{checked} commands");
}

#[test]
fn every_link_leads_to_a_file_and_every_page_is_in_the_summary() {
    let pages = pages();
    let mut checked = 0;
    for (name, text) in &pages {
        let dir = root().join(name).parent().expect("a directory").to_path_buf();
        for target in text.split("](").skip(1).filter_map(|rest| rest.split([')', ' ']).next()) {
            let path = target.split('#').next().unwrap_or_default();
            if path.is_empty() || path.contains("://") || path.starts_with("mailto:") {
                continue;
            }
            assert!(dir.join(path).exists(), "{name}: {target} leads nowhere");
            checked += 1;
        }
    }
    assert!(checked > 50, "{checked} links");
    let summary = std::fs::read_to_string(root().join("docs/SUMMARY.md")).expect("the summary");
    for (name, _) in pages.iter().filter(|(name, _)| name.starts_with("docs/") && name != "docs/SUMMARY.md") {
        let page = name.trim_start_matches("docs/");
        assert!(
            summary.contains(&format!("]({page})")) || summary.contains(&format!("](./{page})")),
            "{page} is missing"
        );
    }
}
