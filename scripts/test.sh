#!/usr/bin/env bash
# Everything that must hold before a change goes in, cheapest first; stops at the first failure. Prints at the end
# how long each phase took. `test.sh PHASE…` runs only those.
set -euo pipefail
cd "$(dirname "$0")/.."

export AFFLUX_CACHE=${AFFLUX_CACHE:-${HOME:?}/.cache/afflux}
export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-$AFFLUX_CACHE/target}

all=(setup format tree layers licences clippy docs peers build deploy tests)
times=()
current=
began=

report() {
    local status=$?
    if [[ -n $current ]]; then times+=("$(printf '%-10s %6d s  failed' "$current" $((SECONDS - began)))"); fi
    printf '\n%s\n' "phases:"
    if ((${#times[@]})); then printf '  %s\n' "${times[@]}"; fi
    printf '  %-10s %6d s\n' total "$SECONDS"
    exit "$status"
}
trap report EXIT

run() {
    current=$1
    began=$SECONDS
    printf '\n== %s\n' "$current"
    "phase_$current"
    times+=("$(printf '%-10s %6d s' "$current" $((SECONDS - began)))")
    current=
}

phase_setup() { scripts/setup.sh test; }
phase_format() { cargo fmt --all --check; }
phase_tree() { python3 scripts/check-tree.py; }
phase_layers() { python3 scripts/check-layers.py; }
phase_licences() { scripts/deny.sh; }
phase_clippy() { cargo clippy --locked --workspace --all-targets -- -D warnings; }
phase_docs() { RUSTDOCFLAGS="-D warnings" cargo doc --locked --no-deps --workspace; }
phase_peers() { scripts/peers.sh; }
# Builds the binary too, with the same features; `cargo build` would select others and build everything again.
phase_build() { cargo test --locked --workspace --no-run; }
# What is deployed: made from one source each, and held to what servers, validators and the program itself take.
phase_deploy() {
    python3 scripts/dashboards.py --check
    AFFLUX_BIN="$CARGO_TARGET_DIR/debug/afflux" scripts/chart.sh
}
phase_tests() { AFFLUX_BIN="$CARGO_TARGET_DIR/debug/afflux" cargo test --locked --workspace --no-fail-fast; }

for phase in "${@:-${all[@]}}"; do
    if [[ $(type -t "phase_$phase") != function ]]; then
        echo "no phase $phase; there are ${all[*]}" >&2
        exit 2
    fi
done
for phase in "${@:-${all[@]}}"; do run "$phase"; done
