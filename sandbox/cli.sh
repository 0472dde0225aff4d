# Sourced: the command that talks to the engine, docker's or else podman's, as the array ENGINE; which engine that is, in
# the order of orchestrator/walls/engine_address.py; and CONFIGURED, the setting that names it, "" if none does.
# shellcheck shell=bash
CONFIGURED="" UNDO="" LISTENS=""
current_context=$(sed -nE 's/.*"currentContext" *: *"([^"]+)".*/\1/p' "${DOCKER_CONFIG:-${HOME:-}/.docker}/config.json" 2>/dev/null || true)
if [ -n "${DOCKER_HOST:-}" ]; then
    CONFIGURED="DOCKER_HOST=$DOCKER_HOST" UNDO="unset DOCKER_HOST"
elif [ -n "${DOCKER_CONTEXT:-}" ]; then
    CONFIGURED="DOCKER_CONTEXT=$DOCKER_CONTEXT" UNDO="unset DOCKER_CONTEXT"
elif [ -n "$current_context" ] && [ "$current_context" != default ]; then
    CONFIGURED="the docker context '$current_context'" UNDO="type: docker context use default"
else
    for socket in /var/run/docker.sock "${XDG_RUNTIME_DIR:-/run/user/$(id -u)}"/{docker.sock,podman/podman.sock} /run/podman/podman.sock; do
        python3 -c 'import socket, sys; socket.socket(socket.AF_UNIX).connect(sys.argv[1])' "$socket" 2>/dev/null || continue
        LISTENS=$socket
        [ "$socket" = /var/run/docker.sock ] || export DOCKER_HOST="unix://$socket"
        break
    done
fi
if command -v docker >/dev/null && { [[ "${DOCKER_HOST:-}" != */podman.sock ]] || ! command -v podman >/dev/null; }; then
    ENGINE=(docker)
elif command -v podman >/dev/null; then
    ENGINE=(podman ${DOCKER_HOST:+--url "$DOCKER_HOST"})
else
    ENGINE=(docker)
fi
