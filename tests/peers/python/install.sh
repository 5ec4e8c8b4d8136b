#!/usr/bin/env bash
# Makes the Python environment of the test suites, once per version of requirements.txt, and prints the path of its
# interpreter as the last line. Says what is missing where it cannot.
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
cache=${AFFLUX_CACHE:-$HOME/.cache/afflux}

missing() {
    echo "$1" >&2
    exit 1
}

command -v python3 >/dev/null || missing "python3 is missing; install it, on Debian with: apt-get install python3 python3-venv"
python3 -c 'import sys; sys.exit(sys.version_info < (3, 10))' ||
    missing "$(python3 --version) is too old for the OpenTelemetry SDK; install Python 3.10 or later"

# An environment belongs to the interpreter that made it.
hash=$({ python3 --version; cat "$here/requirements.txt"; } | sha256sum | cut -c1-12)
venv=$cache/venv-$hash
mkdir -p "$cache"

# Test processes may come here at the same time.
exec 9>"$venv.lock"
flock 9

if [ ! -e "$venv/complete" ]; then
    # Checked rather than left to fail: without python3-venv, Debian's python3 has the module venv but not ensurepip.
    python3 -c 'import venv, ensurepip' 2>/dev/null ||
        missing "python3 has no venv; install it, on Debian with: apt-get install python3-venv"
    rm -rf "$venv"
    python3 -m venv "$venv"
    "$venv/bin/python" -m pip --quiet --disable-pip-version-check install --only-binary :all: \
        --requirement "$here/requirements.txt" >&2 ||
        missing "pip could not install $here/requirements.txt; see above"
    touch "$venv/complete"
fi
echo "$venv/bin/python"
