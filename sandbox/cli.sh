# Sourced: the command that talks to the engine, docker's or else podman's, as the array ENGINE.
# shellcheck shell=bash
if command -v docker >/dev/null; then
    ENGINE=(docker)
elif command -v podman >/dev/null; then
    ENGINE=(podman ${DOCKER_HOST:+--url "$DOCKER_HOST"})
else
    ENGINE=(docker)
fi
