#!/usr/bin/env bash
# gVisor for the tests that need it: the one there is, or the distribution's.
set -euo pipefail
command -v runsc >/dev/null && exit 0
if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
    echo "test: runsc is missing: sudo apt-get install runsc" >&2
    exit 1
fi
echo "test: installing runsc from this machine's own package sources"
apt-get update -qq
DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends runsc >/dev/null
