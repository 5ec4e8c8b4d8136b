#!/usr/bin/env bash
# Licences, sources and bans of every dependency, from the lock file and what is downloaded: needs no network.
# `deny.sh advisories` also fetches the RustSec database and checks against it.
set -euo pipefail
cd "$(dirname "$0")/.."

version=0.20.2
tools=${AFFLUX_CACHE:-${HOME:?}/.cache/afflux}/tools
deny=$tools/bin/cargo-deny

if [[ $("$deny" --version 2>/dev/null || true) != "cargo-deny $version" ]]; then
    echo "building cargo-deny $version, once"
    built=$(mktemp -d)
    trap 'rm -rf "$built"' EXIT
    # Unoptimised: it runs for seconds.
    CARGO_TARGET_DIR=$built cargo install --quiet --locked --debug --root "$tools" "cargo-deny@$version"
fi

"$deny" --locked check --hide-inclusion-graph licenses bans sources
if [[ ${1:-} == advisories ]]; then
    "$deny" --locked check --hide-inclusion-graph advisories
else
    echo "advisories: not checked here, their database is fetched from the network: make deny"
fi
