#!/usr/bin/env bash
# A LiteLLM gateway for the test that asks through the real one, in an environment of its own: build/litellm.
set -euo pipefail
cd "$(dirname "$0")/.."
wanted=$(sha256sum tests/requirements-litellm.txt)
[ "$(cat build/litellm/installed 2>/dev/null)" != "$wanted" ] || exit 0
echo "test: installing LiteLLM into build/litellm"
rm -rf build/litellm
"${PYTHON:-python3}" -m venv build/litellm
build/litellm/bin/python -m pip install -q --disable-pip-version-check --require-hashes -r tests/requirements-litellm.txt 2> >(grep -v WARNING >&2)
echo "$wanted" > build/litellm/installed
