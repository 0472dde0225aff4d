#!/bin/bash
# Experiments of run @RUN@ as a job of Slurm, made by `autoresearch slurm-script`. To start it: sbatch FILE
#SBATCH --job-name=autoresearch-@RUN@
#SBATCH --output=autoresearch-@RUN@-%j.log
#SBATCH --open-mode=append
#SBATCH --time=@MINUTES@
#SBATCH --nodes=1
#SBATCH --ntasks=1
#SBATCH --cpus-per-task=@CPUS@
#SBATCH --mem=@MEMORY_MB@M
#SBATCH --gres=gpu:@GPUS@
#SBATCH --signal=B:USR1@@LEAD_S@
#SBATCH --requeue

# Containers are the engine's children, not this job's: Slurm neither limits, counts nor ends them. So before the job
# is killed, this script ends the loop and removes what it left, by the label of this one session: nothing of others. On
# a node that dies, the guard inside each container ends it at its deadline.
set -u
job=${SLURM_JOB_ID:?start this script with sbatch}
cd @TASK@ || exit 1
autoresearch=(@PYTHON@ -m orchestrator)
reserve_s=@RESERVE_S@ # before the limit: for the trial that runs then, and for what follows the signal
term_s=15             # for the loop to end after scancel or preemption; Slurm kills it after KillWait, usually 30 s
lead_s=@LOOP_ENDS_S@             # and after the signal that comes before the time limit

export CUDA_DEVICE_ORDER=${CUDA_DEVICE_ORDER:-PCI_BUS_ID} # as Slurm numbers the GPUs it gives
export AUTORESEARCH_GPU__RESERVE_GPUS=0                   # they are this job's alone

loop= signalled=
end_loop() { # SIGNAL SECONDS
    trap '' TERM INT USR1
    signalled=$1
    echo "slurm: $1: ending the session"
    [ "$loop" ] || exit 1
    kill -TERM "$loop" 2>/dev/null
    for ((tenths = 10 * $2; tenths > 0; tenths--)); do
        kill -0 "$loop" 2>/dev/null || return
        sleep 0.1
    done
    kill -KILL "$loop" 2>/dev/null
}
trap 'end_loop TERM "$term_s"' TERM INT
trap 'end_loop USR1 "$lead_s"' USR1

hours=@HOURS@
ends=$(squeue --noheader --jobs="$job" --format=%e)
if [ "$ends" ] && ends_s=$(date --date="$ends" +%s 2>/dev/null); then # sbatch --time=… may have been given
    left_s=$((ends_s - $(date +%s) - reserve_s))
    [ "$left_s" -ge 60 ] || { echo "slurm: the job ends at $ends, too soon for an experiment: give it more --time"; exit 1; }
    hours=$((left_s / 3600)).$(printf %03d $((left_s % 3600 * 1000 / 3600)))
fi
echo "slurm: job $job, restart ${SLURM_RESTART_COUNT:-0}, $hours hours of experiments"

# the same command resumes the run, after a requeue too
"${autoresearch[@]}" loop --hours "$hours" @WORDS@ &
loop=$!
read -r boot </proc/sys/kernel/random/boot_id
read -ra stat <<<"$(sed 's/.*) //' "/proc/$loop/stat" 2>/dev/null)"
session=$boot:$loop:${stat[19]-}

wait "$loop"
code=$?
if [ "$signalled" ]; then # that ended the wait, not the loop
    wait "$loop"
    again=$?
    [ "$again" = 127 ] || code=$again
fi
trap '' TERM INT USR1
"${autoresearch[@]}" remove-containers "$session"
[ -z "$signalled" ] || echo "slurm: ended by $signalled; submit the script again to go on with run @RUN@"
exit "$code"
