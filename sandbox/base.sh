#!/usr/bin/env bash
# A minimal base image from this machine's own apt configuration, for where no registry answers: base.sh NAME
set -euo pipefail
name=$1
say() { printf 'base: %s\n' "$*"; }
if ! command -v mmdebstrap >/dev/null; then
    if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
        say "no base image is here and none can be pulled: give one as BASE=image (a Debian or Ubuntu with python3, venv, pip and gcc)," >&2
        say "or install mmdebstrap to make one: sudo apt-get install mmdebstrap" >&2
        exit 1
    fi
    say "installing mmdebstrap"
    apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends mmdebstrap >/dev/null
fi
suite=$(. /etc/os-release && echo "$VERSION_CODENAME")
say "making $name ($suite) from this machine's package sources"
mkdir -p build
mmdebstrap --quiet --variant=minbase --include=python3,python3-venv,python3-pip,python3-dev,gcc,libc6-dev \
    --dpkgopt='path-exclude=/usr/share/man/*' --dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-exclude=/usr/share/locale/*' \
    "$suite" build/base.tar
docker import build/base.tar "$name" >/dev/null
rm -f build/base.tar
