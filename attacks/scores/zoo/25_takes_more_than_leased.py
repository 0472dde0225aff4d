"""Takes every processor, every GPU, more memory and a better priority than it was given.

Ends: scored
Shows: no:
"""

import resource


def attempt(what):
    try:
        what()
    except (OSError, ValueError, PermissionError) as error:
        print("no:", error, flush=True)


for limit in (resource.RLIMIT_NOFILE, resource.RLIMIT_MEMLOCK, resource.RLIMIT_FSIZE):
    attempt(lambda limit=limit: resource.setrlimit(limit, (resource.RLIM_INFINITY, resource.RLIM_INFINITY)))
attempt(lambda: os.sched_setaffinity(0, range(os.cpu_count())))
attempt(lambda: os.nice(-20))
attempt(lambda: os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(50)))
for path in ("/proc/self/oom_score_adj", "/sys/fs/cgroup/memory/memory.limit_in_bytes", "/sys/fs/cgroup/memory.max"):
    attempt(lambda path=path: open(path, "w").write("-1000"))
os.environ.update(CUDA_VISIBLE_DEVICES="0,1,2,3,4,5,6,7", NVIDIA_VISIBLE_DEVICES="all")
if __name__ == "__main__":
    for _ in range(6):
        if os.fork() == 0:
            end = time.monotonic() + 4
            while time.monotonic() < end:
                pass
            os._exit(0)
