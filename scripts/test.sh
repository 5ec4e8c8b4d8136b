#!/usr/bin/env bash
# Everything that must hold before a change goes in, cheapest first; stops at the first failure. Prints at the end
# how long each phase took. `test.sh PHASE…` runs only those.
set -euo pipefail
cd "$(dirname "$0")/.."

all=(setup format tree layers licences clippy docs peers build tests)
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
# What is known to fail is named at every run. An entry goes when the defect behind it does.
known_failures=(
    bus_local::a_closed_bus_says_so              # a closed local bus still lets a consumer pause
    bus_local::a_newer_owner_of_the_id_fences    # the local bus does not fence an older transactional id
    bus_local::compaction_keeps_the_last_value   # the local bus compacts only when a segment is dropped
    real_clients::                               # trace state of links, and a missing span, as SDKs saw them
)
phase_tests() {
    printf 'NOT RUN, known to fail: %s\n' "${known_failures[@]}"
    local skips=()
    for name in "${known_failures[@]}"; do skips+=(--skip "$name"); done
    AFFLUX_BIN="$CARGO_TARGET_DIR/debug/afflux" cargo test --locked --workspace --no-fail-fast -- "${skips[@]}"
}

for phase in "${@:-${all[@]}}"; do
    if [[ $(type -t "phase_$phase") != function ]]; then
        echo "no phase $phase; there are ${all[*]}" >&2
        exit 2
    fi
done
for phase in "${@:-${all[@]}}"; do run "$phase"; done
