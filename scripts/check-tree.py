#!/usr/bin/env python3
"""Refuses source files that break the rules of the tree: none much over 400 lines, no `mod.rs`, nothing left to do."""

import os
import pathlib
import re
import sys

MAX_LINES = 400
SKIPPED = {"target", "node_modules", "afflux-data"}
UNFINISHED = re.compile(r"\b(todo|unimplemented)!\s*[(\[{]")
IGNORED = re.compile(r"#\[ignore\b")


def sources():
    """All Rust files outside hidden folders and what is built or downloaded."""
    for folder, folders, files in os.walk("."):
        folders[:] = sorted(name for name in folders if name not in SKIPPED and not name.startswith("."))
        yield from (pathlib.Path(folder, name) for name in sorted(files) if name.endswith(".rs"))


def problems(path):
    if path.name == "mod.rs":
        yield f"{path}: name it after its module, beside the folder"
    lines = path.read_text(encoding="utf-8").splitlines()
    if len(lines) > MAX_LINES:
        yield f"{path}: {len(lines)} lines, over {MAX_LINES}: split it"
    for number, line in enumerate(lines, 1):
        if UNFINISHED.search(line):
            yield f"{path}:{number}: something is left to do"
        if IGNORED.search(line):
            yield f"{path}:{number}: a test that is not run"


def main():
    os.chdir(pathlib.Path(__file__).resolve().parent.parent)
    paths = list(sources())
    found = [problem for path in paths for problem in problems(path)]
    for problem in found:
        print(problem, file=sys.stderr)
    if found:
        sys.exit(1)
    print(f"{len(paths)} source files, none over {MAX_LINES} lines")


if __name__ == "__main__":
    main()
