"""PID 1 of every container: the killer inside. Standard library only.

Starts the program in a session of its own, reaps what it leaves behind, and ends the container when the program ends or
its hard limit is over, whichever comes first. PID 1 cannot be killed from inside its namespace, and is not dumpable, so
the program can neither stop it, trace it nor write its memory. It outlives an orchestrator that was killed.
"""

import ctypes
import os
import signal
import sys
import time

PR_SET_DUMPABLE = 4


def child_exit(limit_s: float, child: int) -> int:
    """Wait for the child until the limit; its exit code as a shell would say it."""
    deadline = time.monotonic() + limit_s
    while (left := deadline - time.monotonic()) > 0:
        signal.setitimer(signal.ITIMER_REAL, left)
        try:
            pid, status = os.waitpid(-1, 0)
        except InterruptedError:
            continue
        if pid == child:
            code = os.waitstatus_to_exitcode(status)
            return code if code >= 0 else 128 - code
    return 128 + signal.SIGKILL


def interrupted(_number: int, _frame: object) -> None:
    """Break waitpid when the limit is over."""
    raise InterruptedError


def main() -> None:
    """`guard.py LIMIT_S -- PROGRAM [ARGUMENT ...]`."""
    limit_s, program = float(sys.argv[1]), sys.argv[3:]
    ctypes.CDLL(None).prctl(PR_SET_DUMPABLE, 0, 0, 0, 0)
    for number in set(signal.Signals) - {signal.SIGKILL, signal.SIGSTOP, signal.SIGCHLD, signal.SIGALRM}:
        signal.signal(number, signal.SIG_IGN)
    signal.signal(signal.SIGALRM, interrupted)
    environment = {**os.environ, "AUTORESEARCH_STARTED": repr(time.monotonic())}
    child = os.fork()
    if child == 0:
        os.setsid()
        for number in set(signal.Signals) - {signal.SIGKILL, signal.SIGSTOP}:
            signal.signal(number, signal.SIG_DFL)
        try:
            os.execvpe(program[0], program, environment)  # noqa: S606  # an argv list of the host's
        except OSError as error:
            print(f"error: {program[0]}: {error.strerror}", file=sys.stderr, flush=True)
            os._exit(127)
    os._exit(child_exit(limit_s, child))  # PID 1 gone: the kernel kills whatever is left


if __name__ == "__main__":
    main()
