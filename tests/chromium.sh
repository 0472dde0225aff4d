#!/bin/sh
# The browser that the report is tested in: Chromium of the distribution, installed where it is missing and one may.
set -eu
command -v chromium >/dev/null && exit 0
[ "$(id -u)" = 0 ] && command -v apt-get >/dev/null || {
    echo "test: the report is tested in Chromium, which is missing; on Debian: apt-get install chromium" >&2
    exit 1
}
echo "test: installing Chromium, in which the report is tested"
export DEBIAN_FRONTEND=noninteractive
log=$(mktemp)
{ apt-get -qq update && apt-get -qq install -y --no-install-recommends chromium; } >"$log" 2>&1 || {
    tail -5 "$log" >&2
    echo "test: Chromium cannot be installed; apt-get install chromium says why" >&2
    exit 1
}
rm -f "$log"
