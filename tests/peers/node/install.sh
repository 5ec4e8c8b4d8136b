#!/usr/bin/env bash
# Installs the Node.js application of the test suites, once per version of package-lock.json, and prints the path of
# its app.js as the last line. Says what is missing where it cannot.
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
cache=${AFFLUX_CACHE:-$HOME/.cache/afflux}

missing() {
    echo "$1" >&2
    exit 1
}

command -v node >/dev/null || missing "node is missing; install it, on Debian with: apt-get install nodejs npm"
command -v npm >/dev/null || missing "npm is missing; install it, on Debian with: apt-get install npm"
node -e 'const [a, b] = process.versions.node.split("."); process.exit(a > 20 || (a == 20 && b >= 6) || (a == 18 && b >= 19) ? 0 : 1)' ||
    missing "node $(node --version) is too old for the OpenTelemetry SDK; install 18.19, or 20.6 or later"

hash=$(cat "$here/package-lock.json" "$here/package.json" | sha256sum | cut -c1-12)
app=$cache/node-$hash
mkdir -p "$cache"

# Test processes may come here at the same time.
exec 9>"$app.lock"
flock 9

if [ ! -e "$app/complete" ]; then
    rm -rf "$app"
    mkdir "$app"
    cp "$here/package.json" "$here/package-lock.json" "$here/.npmrc" "$app/"
    (cd "$app" && npm ci --ignore-scripts >&2) || missing "npm could not install $here/package.json; see above"
    touch "$app/complete"
fi
# The application is run from where its packages are.
cp "$here/app.js" "$app/"
echo "$app/app.js"
