#!/usr/bin/env bash
# A container engine that answers: the one there is, or Debian's docker.io where this runs as root and none answers.
set -euo pipefail
cd "$(dirname "$0")"
. ./cli.sh

answers() { words=$(timeout 20 "${ENGINE[@]}" version --format '{{.Server.Version}}' 2>&1 >/dev/null); }
say() { printf 'engine: %s\n' "$*"; }
runs() { grep -qsx dockerd /proc/[0-9]*/comm; }

if [ "${ENGINE[0]}" = podman ] && [ -z "$CONFIGURED$LISTENS" ]; then
    say "podman is here, but nothing listens for its API: systemctl $([ "$(id -u)" = 0 ] || echo --user) enable --now podman.socket" >&2
    exit 1
fi
address=${DOCKER_HOST:-}
[ -n "$address" ] || [ -z "$CONFIGURED" ] || address=$(timeout 20 docker context inspect --format '{{.Endpoints.docker.Host}}' 2>/dev/null || true)
if [[ "$address" == ssh://* ]]; then
    say "$CONFIGURED: containers on another machine cannot see the files of this one; run the loop on that machine, or $UNDO" >&2
    exit 1
fi
answers && exit 0
words=$(tr '\n' ' ' <<<"${words:-it says nothing}")
if [ -n "$CONFIGURED" ]; then # another engine than the user's is never started
    say "$CONFIGURED does not answer: start that engine, or $UNDO (${ENGINE[0]} says: ${words% })" >&2
    exit 1
fi
if [ -S /var/run/docker.sock ] && [ ! -w /var/run/docker.sock ]; then
    say "you may not use /var/run/docker.sock. Type" >&2
    say "  sudo usermod -aG docker \$USER    (then log in again; it makes you as good as root)" >&2
    exit 1
fi
for _ in $(runs && seq 10); do # it may be starting
    sleep 1
    answers && exit 0
done
if runs; then
    say "an engine runs on this machine, but ${ENGINE[0]} cannot use it; no other is started. It says: ${words% }" >&2
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
    setsid nohup dockerd >>"$log" 2>&1 </dev/null &
fi
for _ in $(seq 60); do
    answers && { say "$(docker version --format '{{.Server.Version}}') answers"; exit 0; }
    sleep 1
done
say "dockerd was started but does not answer after a minute; the reason is in $log" >&2
exit 1
