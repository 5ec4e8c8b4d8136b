#!/usr/bin/env bash
# Builds the OpenTelemetry Collector of builder.yaml with the project's own builder, once per version of that file and
# of Go, and prints the path of the program as the last line. About 3 minutes of CPU the first time. Says what is
# missing where it cannot.
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
cache=${AFFLUX_CACHE:-$HOME/.cache/afflux}
# The release that builder.yaml names, for the builder too.
version=$(sed -n 's/^  version: //p' "$here/builder.yaml")
least=21

missing() {
    echo "$1" >&2
    exit 1
}

command -v go >/dev/null || missing "go is missing; install Go 1.$least or later, on Debian 13 with: apt-get install golang-go"
minor=$(go env GOVERSION | sed -n 's/^go1\.\([0-9]*\).*/\1/p')
[[ ${minor:-0} -ge $least ]] ||
    missing "$(go version) is too old for the Collector; install Go 1.$least or later, see https://go.dev/doc/install"

# Where the modules ask for a newer Go than this one, it fetches that itself.
export GOTOOLCHAIN=auto CGO_ENABLED=0 GOFLAGS=-buildvcs=false

hash=$({ go env GOVERSION; cat "$here/builder.yaml"; } | sha256sum | cut -c1-12)
built=$cache/collector-$hash
mkdir -p "$cache"

# Test processes may come here at the same time; what an interrupted one left is swept.
exec 9>"$built.lock"
flock 9
rm -rf "$built".build

if [ ! -x "$built/otelcol" ]; then
    # Sources and the builder are of no use later; the folder appears under its final name only when it is complete.
    work=$built.build
    trap 'rm -rf "$work"' EXIT
    mkdir -p "$work"
    GOBIN=$work go install "go.opentelemetry.io/collector/cmd/builder@v$version" >&2 ||
        missing "the Collector's builder could not be built; see above"
    "$work/builder" --config "$here/builder.yaml" --output-path "$work/src" --skip-compilation >&2 &&
        (cd "$work/src" && go build -trimpath -ldflags='-s -w' -o "$work/otelcol" .) >&2 ||
        missing "the Collector could not be built; see above"
    rm -rf "$work/src" "$work/builder" "$built"
    mv "$work" "$built"
    trap - EXIT
fi
echo "$built/otelcol"
