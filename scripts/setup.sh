#!/usr/bin/env bash
# Finds what building (`setup.sh build`) or testing (`setup.sh test`, the default) needs, says what it found, and
# installs what is missing with apt-get where it may (as root, on Debian and Ubuntu); otherwise names the exact line.
set -euo pipefail
cd "$(dirname "$0")/.."

purpose=${1:-test}
rust=$(sed -n 's/^rust-version = "\(.*\)"/\1/p' Cargo.toml)
java=17
node=18 # 18.19, or 20.6 and later, as tests/peers/node/install.sh says
go=21 # 1.21 and later fetch the Go that a module asks for; Debian 13 has 1.24, Debian 12 has 1.19, which does not do
missing=()
unfit=()

say() { printf '  %-12s %s\n' "$1" "$2"; }
number() { sed -n 's/[^0-9]*\([0-9][0-9]*\).*/\1/p' <<<"$1" | head -n 1; }

# need NAME FOUND PACKAGE…: FOUND is what was found, empty where it is missing.
need() {
    local name=$1 found=$2
    shift 2
    if [[ -n $found ]]; then say "$name" "$found"; else say "$name" "missing"; missing+=("$@"); fi
}

# The first line of what a command says, without colours; nothing where there is no such command.
first_line() {
    command -v "$1" >/dev/null || return 0
    { "$@" 2>&1 || true; } | head -n 1 | sed 's/\x1b\[[0-9;]*m//g'
}

look_for_build() {
    local found
    found=$(first_line rustc --version)
    if [[ -z $found ]] || ! command -v cargo >/dev/null; then
        say rust missing
        unfit+=("Rust $rust or later is not installed: see https://rustup.rs")
    elif [[ $(printf '%s\n' "$rust" "$(awk '{print $2}' <<<"$found")" | sort -V | head -n 1) != "$rust" ]]; then
        say rust "$found"
        unfit+=("Rust $rust or later is needed, this is $found: rustup update stable")
    else
        say rust "$found"
    fi
    need cc "$(first_line cc --version)" gcc libc6-dev
    need c++ "$(first_line c++ --version)" g++
    need make "$(first_line make --version)" make
    # OpenSSL's own build, within librdkafka's; `perl` alone may be a small part of Perl.
    found=
    if command -v perl >/dev/null && perl -MFindBin -MIPC::Cmd -MFile::Compare -e 1 2>/dev/null; then
        found=$(perl -e 'printf "perl %vd", $^V')
    fi
    need perl "$found" perl
    if command -v cc >/dev/null && ! cc -E -x c - <<<'#include <stdlib.h>' >/dev/null 2>&1; then
        say "C headers" missing
        missing+=(libc6-dev)
    fi
}

look_for_tests() {
    local found
    found=$(first_line java -version | sed -n 's/.*version "\([^"]*\)".*/\1/p')
    if [[ -n $found && $(number "$found") -lt $java ]]; then found=; fi
    need java "$found" "$(java_package)"
    need maven "$(first_line mvn --version)" maven
    found=
    if command -v python3 >/dev/null && python3 -c 'import ensurepip, venv' 2>/dev/null; then
        found=$(python3 --version)
    fi
    need python3 "$found" python3 python3-venv
    found=$(first_line node --version)
    if [[ -n $found && $(number "$found") -lt $node ]]; then
        unfit+=("Node.js $node or later is needed, this is $found")
    fi
    need node "$found" nodejs
    need npm "$(first_line npm --version)" npm
    found=$(first_line go env GOVERSION)
    if [[ -n $found && $(sed 's/^go1\.\([0-9]*\).*/\1/' <<<"$found") -lt $go ]]; then
        unfit+=("Go 1.$go or later is needed, this is $found: see https://go.dev/doc/install")
    fi
    need go "$found" golang-go
    # Certificates for a Kafka that speaks TLS.
    need openssl "$(first_line openssl version)" openssl
}

# The package of the oldest Java that will do and that this release has.
java_package() {
    local package
    for package in "openjdk-$java-jre-headless" openjdk-21-jre-headless; do
        if apt-cache show "$package" >/dev/null 2>&1; then echo "$package"; return; fi
    done
    echo default-jre-headless
}

look() {
    missing=()
    unfit=()
    look_for_build
    if [[ $purpose == test ]]; then look_for_tests; fi
}

case $purpose in
build | test) ;;
*) echo "usage: setup.sh [build|test]" >&2; exit 2 ;;
esac

look
if ((${#missing[@]})); then
    install="apt-get install -y --no-install-recommends"
    if [[ $(id -u) == 0 ]] && command -v apt-get >/dev/null; then
        export DEBIAN_FRONTEND=noninteractive
        apt-get update
        # The lists decide which Java this release has.
        look >/dev/null
        echo "$install ${missing[*]}"
        $install "${missing[@]}"
        hash -r
        look
    else
        unfit+=("as root: apt-get update && $install ${missing[*]}")
    fi
fi
if ((${#missing[@]} + ${#unfit[@]})); then
    echo "$purpose needs more than this machine has:" >&2
    printf '  %s\n' "${unfit[@]:-still missing after installing: ${missing[*]}}" >&2
    exit 1
fi
