#!/usr/bin/env bash
# Podman for the tests that need it: the one there is, or the distribution's.
set -euo pipefail
command -v podman >/dev/null && command -v newuidmap >/dev/null && exit 0
if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
    echo "test: podman and uidmap are missing: sudo apt-get install podman uidmap" >&2
    exit 1
fi
echo "test: installing podman from this machine's own package sources"
apt-get update -qq
DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends podman uidmap >/dev/null
