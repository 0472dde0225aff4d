#!/usr/bin/env bash
# A minimal base image from this machine's own apt configuration, for where no registry answers: base.sh NAME WORK
set -euo pipefail
name=$1 work=$2
. "$(dirname "$(realpath "$0")")/cli.sh"
say() { printf 'base: %s\n' "$*"; }
if ! command -v mmdebstrap >/dev/null; then
    if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
        say "no base image is here and none can be pulled. Either name one that is, with python3, venv, pip and g++: make BASE=image image" >&2
        say "or, on Debian or Ubuntu, install what makes one: sudo apt-get install mmdebstrap" >&2
        exit 1
    fi
    say "installing mmdebstrap"
    apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends mmdebstrap >/dev/null
fi
suite=$(. /etc/os-release && echo "${VERSION_CODENAME:?}")
say "making $name ($suite) from this machine's package sources"
mkdir -p "$work"
trap 'rm -f "$work/base.tar"' EXIT
mmdebstrap --quiet --variant=minbase --include=python3,python3-venv,python3-pip,python3-dev,g++ \
    --dpkgopt='path-exclude=/usr/share/man/*' --dpkgopt='path-exclude=/usr/share/doc/*' \
    --dpkgopt='path-exclude=/usr/share/locale/*' --dpkgopt='path-exclude=/usr/lib/gcc/*/*/lto1' \
    "$suite" "$work/base.tar"
"${ENGINE[@]}" import "$work/base.tar" "$name" >/dev/null
