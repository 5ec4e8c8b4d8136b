#!/usr/bin/env python3
"""Refuses dependencies that point the wrong way.

A crate depends only on crates above it in LAYERS; crates on one line do not depend on each other. Heavy libraries are
taken only by the crates that the design gives them to. Dev-dependencies may point anywhere: they are not shipped.
"""

import json
import pathlib
import subprocess
import sys

LAYERS = [
    ["afflux-schemas"],
    ["afflux-bus"],
    ["afflux-runtime"],
    ["afflux-producers", "afflux-processors", "afflux-sinks"],
    ["afflux-query"],
    ["afflux"],
    ["afflux-tests"],
]

# Library: crates that may depend on it. A name that ends in `*` stands for all that begin so.
OWNERS = {
    "rdkafka": ["afflux-bus", "afflux-tests"],
    "kube*": ["afflux-producers"],
    "tonic": ["afflux-producers", "afflux-sinks", "afflux-tests"],
    "axum": ["afflux-runtime", "afflux-producers", "afflux-tests"],
    "hyper": ["afflux-runtime", "afflux-producers", "afflux-tests"],
    "parquet": ["afflux-sinks", "afflux-query"],
    "object_store": ["afflux-sinks", "afflux-query"],
    "datafusion*": ["afflux-query"],
    "clap": ["afflux"],
    "anyhow": ["afflux", "afflux-tests"],
}


def owned(library):
    """The crates that may depend on a library, None where any may."""
    for name, owners in OWNERS.items():
        if library == name or (name.endswith("*") and library.startswith(name[:-1])):
            return owners
    return None


def problems(packages):
    rank = {name: at for at, names in enumerate(LAYERS) for name in names}
    for package in packages:
        name = package["name"]
        if name not in rank:
            yield f"{name} is not in LAYERS of scripts/check-layers.py: give it its place"
            continue
        for dependency in package["dependencies"]:
            library = dependency["name"]
            if dependency["kind"] == "dev":
                continue
            if library in rank and rank[library] >= rank[name]:
                yield f"{name} depends on {library}, which is not above it"
            owners = owned(library)
            if owners is not None and name not in owners:
                yield f"{name} depends on {library}, which belongs to {' and '.join(owners)}"


def main():
    command = ["cargo", "metadata", "--no-deps", "--format-version", "1", "--locked", "--offline"]
    root = pathlib.Path(__file__).resolve().parent.parent
    metadata = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, cwd=root).stdout)
    found = sorted(set(problems(metadata["packages"])))
    for problem in found:
        print(problem, file=sys.stderr)
    if found:
        sys.exit(1)
    print(f"{len(metadata['packages'])} crates depend one way")


if __name__ == "__main__":
    main()
