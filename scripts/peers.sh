#!/usr/bin/env bash
# Sets up the real servers and clients that the suites run against. Each one's own script downloads it once into
# the cache. Under CI=true one that cannot be set up is a failure; otherwise the suites that need it say that they
# skip it.
set -euo pipefail
cd "$(dirname "$0")/.."

failed=()
for peer in kafka python node collector prometheus; do
    script=tests/peers/$peer/install.sh
    if [[ ! -f $script ]]; then
        echo "$peer: there is no $script" >&2
        failed+=("$peer")
        continue
    fi
    started=$SECONDS
    if where=$(bash "$script" | tail -n 1); then
        echo "$peer: $where ($((SECONDS - started)) s)"
    else
        echo "$peer: $script failed" >&2
        failed+=("$peer")
    fi
done
if ((${#failed[@]})); then
    if [[ ${CI:-} == true ]]; then exit 1; fi
    echo "suites that need these are skipped: ${failed[*]}" >&2
fi
