#!/usr/bin/env bash
# Finds a real Prometheus, or unpacks Debian's into the cache, once, and prints the path of the program as the last line.
# Nothing is installed: no service is started, no user made, and no root needed where the package lists are there.
set -euo pipefail

cache=${AFFLUX_CACHE:-$HOME/.cache/afflux}/prometheus

missing() {
    echo "$1" >&2
    exit 1
}

if command -v promtool >/dev/null && command -v prometheus; then exit 0; fi

# Test processes may come here at the same time; what an interrupted one left is swept.
mkdir -p "$cache"
exec 9>"$cache/lock"
flock 9
rm -rf "$cache"/.install.*

# The program appears under its final name only when it is complete.
if [[ ! -x $cache/prometheus || ! -x $cache/promtool ]]; then
    for tool in apt-get dpkg-deb; do
        command -v $tool >/dev/null || missing "prometheus is missing; install it, or run the suites on Debian or Ubuntu"
    done
    fresh=$(mktemp -d "$cache/.install.XXXXXX")
    trap 'rm -rf "$fresh"' EXIT
    if ! apt-cache show prometheus >/dev/null 2>&1 && [[ $(id -u) == 0 ]]; then apt-get update >&2; fi
    (cd "$fresh" && apt-get -o APT::Sandbox::User=root download prometheus >&2) ||
        missing "the package prometheus could not be fetched; as root, apt-get update may help"
    dpkg-deb --extract "$fresh"/prometheus_*.deb "$fresh/root"
    "$fresh/root/usr/bin/prometheus" --version >&2
    mv "$fresh/root/usr/bin/promtool" "$cache/promtool"
    mv "$fresh/root/usr/bin/prometheus" "$cache/prometheus"
fi
echo "$cache/prometheus"
