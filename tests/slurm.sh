#!/usr/bin/env bash
# Slurm for the check that needs it: the one there is, or the distribution's.
set -euo pipefail
command -v slurmctld >/dev/null && command -v slurmd >/dev/null && command -v sbatch >/dev/null && command -v munged >/dev/null && exit 0
if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
    echo "test-slurm: Slurm is missing: sudo apt-get install slurmctld slurmd slurm-client munge" >&2
    exit 1
fi
echo "test-slurm: installing Slurm from this machine's own package sources"
apt-get update -qq
DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends slurmctld slurmd slurm-client munge >/dev/null
