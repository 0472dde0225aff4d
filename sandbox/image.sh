#!/usr/bin/env bash
# Builds autoresearch-sandbox:<profile> and :<profile>-library; skipped when nothing it is made of has changed.
#   PROFILE=cpu|gpu   BASE=image (default: a public one if it is here or can be pulled, else made by sandbox/base.sh)
set -euo pipefail
cd "$(dirname "$0")/.."
PROFILE=${PROFILE:-cpu}
PYTHON=${PYTHON:-python3}
case $PROFILE in
    cpu) public=python:3.11-slim-bookworm ;;
    gpu) public=nvidia/cuda:13.0.1-runtime-ubuntu24.04 ;;
    *) echo "image: PROFILE=$PROFILE: must be cpu or gpu" >&2; exit 1 ;;
esac
requirements=sandbox/requirements-$PROFILE.txt
say() { printf 'image: %s\n' "$*"; }

recipe=$( (echo "$PROFILE ${BASE:-}"; cat sandbox/Dockerfile sandbox/image.sh sandbox/base.sh "$requirements" \
    locked/corpus.py locked/prepare.py) | sha256sum | cut -d' ' -f1)
made=$(docker image inspect --format '{{index .Config.Labels "autoresearch.recipe"}}' "autoresearch-sandbox:$PROFILE" 2>/dev/null || true)
[ "$made" = "$recipe" ] && exit 0

fits() { # has a Python with venv and pip, and a C compiler for Triton
    docker run --rm --network none --entrypoint sh "$1" -c 'python3 -m venv --help >/dev/null && command -v cc >/dev/null' >/dev/null 2>&1
}
base=${BASE:-}
if [ -z "$base" ] && fits "$public"; then base=$public; fi
if [ -z "$base" ]; then
    base=autoresearch-base:local
    docker image inspect "$base" >/dev/null 2>&1 || sandbox/base.sh "$base"
elif ! docker image inspect "$base" >/dev/null 2>&1; then
    say "pulling $base"
    timeout 600 docker pull -q "$base"
fi

version=$(docker run --rm --network none --entrypoint python3 "$base" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
mkdir -p "build/wheels/$PROFILE"
say "collecting wheels for Python $version on this machine"
"$PYTHON" -m pip download -q --disable-pip-version-check --dest "build/wheels/$PROFILE" --require-hashes -r "$requirements" \
    --only-binary :all: --python-version "$version" 2> >(grep -v -e WARNING -e '^$' >&2)
for target in library experiment; do
    tag=autoresearch-sandbox:$PROFILE; [ $target = library ] && tag=$tag-library
    say "building $tag on $base"
    docker build -q --network none --build-arg BASE="$base" --build-arg PROFILE="$PROFILE" --build-arg RECIPE="$recipe" \
        --target $target --tag "$tag" --file sandbox/Dockerfile . 2> >(grep -v -i -e deprecated -e buildx -e '^ *$' >&2)
done
rm -rf "build/wheels/$PROFILE"
