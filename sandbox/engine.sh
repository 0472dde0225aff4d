#!/usr/bin/env bash
# A container engine that answers: the one there is, or Debian's docker.io where this runs as root and none answers.
set -euo pipefail
cd "$(dirname "$0")"
. ./cli.sh

answers() { timeout 20 "${ENGINE[@]}" version --format '{{.Server.Version}}' >/dev/null 2>&1; }
say() { printf 'engine: %s\n' "$*"; }

answers && exit 0
if [ -n "${DOCKER_HOST:-}" ]; then
    say "DOCKER_HOST=$DOCKER_HOST does not answer: start that engine, or unset the variable" >&2
    exit 1
fi
if [ -S /var/run/docker.sock ] && [ ! -w /var/run/docker.sock ]; then
    say "you may not use /var/run/docker.sock. Type" >&2
    say "  sudo usermod -aG docker \$USER    (then log in again; it makes you as good as root)" >&2
    exit 1
fi
if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
    say "no container engine answers. Type" >&2
    say "  sudo apt-get install docker.io && sudo usermod -aG docker \$USER    (then log in again)" >&2
    exit 1
fi
if ! command -v dockerd >/dev/null; then
    say "none answers: installing docker.io from this machine's own package sources"
    apt-get update -qq
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends docker.io >/dev/null
fi
ENGINE=(docker)
answers && exit 0 # the package may have started it
log=/var/log/dockerd.log
if [ -d /run/systemd/system ]; then
    log="journalctl -u docker"
    say "starting docker.service"
    systemctl start docker || true
else
    say "starting dockerd (log: $log)"
    setsid nohup dockerd >"$log" 2>&1 </dev/null &
fi
for _ in $(seq 60); do
    answers && { say "$(docker version --format '{{.Server.Version}}') answers"; exit 0; }
    sleep 1
done
say "dockerd was started but does not answer after a minute; the reason is in $log" >&2
exit 1
