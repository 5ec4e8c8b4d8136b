#!/bin/sh
# Puts the jars of a real MirrorMaker 2 into the cache, once, and prints the folder that holds them.
# Needs Java 17 or later and Maven; says which is missing.
set -eu

here=$(cd "$(dirname "$0")" && pwd)
version=$(sed -n 's:.*<kafka.version>\(.*\)</kafka.version>.*:\1:p' "$here/pom.xml")
cache=${AFFLUX_CACHE:-${HOME:?}/.cache/afflux}/mirror-maker
libs=$cache/$version

for tool in java mvn; do
    command -v $tool >/dev/null || {
        echo "$tool is not installed; the MirrorMaker suite needs a Java 17 runtime and Maven" >&2
        exit 1
    }
done

# Test processes may come here at the same time; what an interrupted one left is swept.
mkdir -p "$cache"
exec 9>"$cache/lock"
flock 9
rm -rf "$cache"/.install.*

# The folder appears under its final name only when it is complete, and holds the pom it was made from.
if ! cmp -s "$here/pom.xml" "$libs/pom.xml"; then
    fresh=$(mktemp -d "$cache/.install.XXXXXX")
    trap 'rm -rf "$fresh"' EXIT
    mvn --quiet --batch-mode -Dstyle.color=never --file "$here/pom.xml" dependency:copy-dependencies \
        -DincludeScope=runtime -DoutputDirectory="$fresh" >&2
    cp "$here/pom.xml" "$fresh/pom.xml"
    rm -rf "$libs"
    mv "$fresh" "$libs"
    trap - EXIT
fi
echo "$libs"
