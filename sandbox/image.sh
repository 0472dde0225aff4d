#!/usr/bin/env bash
# Builds autoresearch-sandbox:<profile> and :<profile>-library; skipped when nothing they are made of has changed.
#   image.sh CORPUS WORK    CORPUS: the containers' corpus.py, which takes the private documents out of the image;
#                           WORK: a folder for downloads and logs
#   PROFILE=cpu|gpu
#   BASE=image      any with python3, venv and pip; default: a public one if it is here or can be pulled, else sandbox/base.sh
# CUDA comes with torch's wheels, and the driver from the host: no profile needs a CUDA base image, nvidia/cuda works too.
set -euo pipefail
corpus=$1 work=$2
context=$work/context # everything that the engine is given
sandbox=$(dirname "$(realpath "$0")")
. "$sandbox/cli.sh"
PROFILE=${PROFILE:-cpu}
PYTHON=${PYTHON:-python3}
PUBLIC=python:3.11-slim-bookworm
case $PROFILE in
    cpu | gpu) ;;
    *) echo "image: PROFILE=$PROFILE: must be cpu or gpu" >&2; exit 1 ;;
esac
export BUILDKIT_PROGRESS=plain BUILDX_NO_DEFAULT_ATTESTATIONS=1 # attestations make each build of the same content another image
say() { printf 'image: %s\n' "$*"; }
here() { "${ENGINE[@]}" image inspect --format "${2:-here}" "$1" 2>/dev/null; }

recipe=$( (echo "$PROFILE ${BASE:-}"; cat "$sandbox"/{Dockerfile,image.sh,base.sh,requirements-{cpu,gpu}.txt} "$corpus") |
    sha256sum | cut -d' ' -f1)
[ "$(here "autoresearch-sandbox:$PROFILE" '{{index .Config.Labels "autoresearch.recipe"}}' || true)" = "$recipe" ] && exit 0
here "autoresearch-sandbox:$PROFILE" >/dev/null && say "what the $PROFILE image is made of has changed: building it again"
mkdir -p "$context/wheels"
cp "$corpus" "$context/corpus.py"

steps() { # of the classic builder, of Podman, and of BuildKit, which prints them on its standard error
    grep --line-buffered -oE '^((Step|STEP) [0-9/]+ ?: |#[0-9]+ \[[a-z]+ [0-9]+/[0-9]+\] )(FROM|RUN) .{1,60}' | sed -u 's/^/image:   /'
}

build() { # build TARGET TAG NETWORK [ARGUMENT...]: shows the steps, and the whole output if it fails
    local target=$1 tag=$2 network=$3 log=$work/image.log
    shift 3
    say "building $tag"
    if ! "${ENGINE[@]}" build --network "$network" --target "$target" --tag "$tag" --file "$sandbox/Dockerfile" "$@" "$context" \
        2> >(tee "$log.err" | steps) > >(tee "$log" | steps); then
        tail -n 20 "$log" "$log.err" >&2
        say "building $tag failed; the whole output is in $log" >&2
        exit 1
    fi
}

base=${BASE:-}
if [ -z "$base" ]; then
    base=$PUBLIC
    if ! here "$base" >/dev/null && timeout 20 "${ENGINE[@]}" manifest inspect "$base" >/dev/null 2>&1; then
        say "pulling $base"
        timeout 600 "${ENGINE[@]}" pull -q "$base" >/dev/null || true
    fi
    if ! here "$base" >/dev/null; then
        base=autoresearch-base:$(sha256sum <"$sandbox/base.sh" | cut -c1-12)
        here "$base" >/dev/null || bash "$sandbox/base.sh" "$base" "$work"
    fi
elif ! here "$base" >/dev/null; then
    say "pulling $base"
    timeout 600 "${ENGINE[@]}" pull -q "$base" >/dev/null || { say "BASE=$base is not here and cannot be pulled" >&2; exit 1; }
fi
inside() { "${ENGINE[@]}" run --rm --network none --entrypoint python3 "$base" -c "$1"; }
compiles() { inside 'import os, shutil, sys, sysconfig
sys.exit(not (shutil.which("g++") and os.path.isfile(os.path.join(sysconfig.get_paths()["include"], "Python.h"))))'; }
if ! compiles; then
    build compiler autoresearch-base:with-compiler default --build-arg BASE="$base" # the one step that needs a network
    base=autoresearch-base:with-compiler
    compiles || { say "BASE=${BASE:-$base} has no Python.h for its python3, which torch.compile needs: name another" >&2; exit 1; }
fi

version=$(inside 'import sys, venv, ensurepip; print("%d.%d" % sys.version_info[:2])') || {
    say "BASE=$base has no python3 with venv and pip: name another, or none to have one made" >&2; exit 1; }
collect() { # into the folder wheels/NAME, by this machine's own pip configuration; the image's Python decides which
    "$PYTHON" -m pip download --disable-pip-version-check --progress-bar off --dest "$context/wheels/$1" --require-hashes \
        --only-binary :all: --python-version "$version" -r "$sandbox/requirements-$1.txt" \
        2>"$work/pip.log" | grep --line-buffered -E '^Collecting (torch|numpy|pyarrow)=' | sed -u 's/ (from.*//; s/^/image:   /'
}
say "collecting wheels for Python $version"
wheels=$PROFILE
if ! collect "$wheels"; then
    [ "$PROFILE" = cpu ] || { grep -i error "$work/pip.log" >&2; exit 1; }
    say "no CPU build of torch is to be had here: taking the CUDA build, which works without a GPU but is several GB"
    wheels=gpu
    collect gpu || { grep -i error "$work/pip.log" >&2; exit 1; }
fi
cp "$sandbox/requirements-$wheels.txt" "$context/requirements.txt"
arguments=(--build-arg BASE="$base" --build-arg WHEELS="$wheels" --build-arg RECIPE="$recipe")
build library "autoresearch-sandbox:$PROFILE-library" none "${arguments[@]}"
build experiment "autoresearch-sandbox:$PROFILE" none "${arguments[@]}"
rm -rf "$context"
