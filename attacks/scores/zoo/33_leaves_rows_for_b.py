"""A leaves the rows it saw wherever B might look: volumes, shared memory, sockets, locks, messages, clocks of files.

Ends: cheat, a claim differs from its audit
"""

import ctypes
import glob
import socket

PLACES = (
    "/out",
    "/answer",
    "/ask",
    "/tmp",
    "/cache",
    "/dev/shm",
    "/dev/mqueue",
    "/locked",
    "/mutable",
    "/data",
    "/var/tmp",
    "/run",
)


def attempt(what, *arguments):
    try:
        return what(*arguments)
    except (OSError, ValueError):
        return None


def leave(rows):
    for place in PLACES:
        attempt(np.save, place + "/left-rows.npy", rows)
    libc = ctypes.CDLL(None)
    size = rows.nbytes
    identifier = libc.shmget(4242, size, 0o1666)
    if identifier >= 0:
        libc.shmat.restype = ctypes.c_void_p
        ctypes.memmove(libc.shmat(identifier, None, 0), rows.tobytes(), size)
    server = socket.socket(socket.AF_UNIX)
    attempt(server.bind, "\0left-rows")
    attempt(os.utime, "/out/checkpoint.pt", (int(rows[0, 1]), int(rows[0, 2])))
    return server


def take():
    for place in PLACES:
        for path in glob.glob(place + "/**/left-rows.npy", recursive=True):
            return np.load(path)
    libc = ctypes.CDLL(None)
    identifier = libc.shmget(4242, 0, 0o666)
    if identifier >= 0:
        libc.shmat.restype = ctypes.c_void_p
        data = ctypes.string_at(libc.shmat(identifier, None, 0), 256 * 129 * 8)
        return np.frombuffer(data, "int64").reshape(-1, 129)
    return None


def load_model(path, device):
    model = honest(path, device)
    left = take()
    rows, kept = [], []

    def answer(tokens):
        logits = model(tokens).clone()
        if left is not None:
            for b, row in enumerate(tokens.tolist()):
                for known in left.tolist():
                    p = next((p for p in range(128, 0, -1) if known[:p] == row[:p]), 0)
                    if p > 3:
                        logits[b, p - 1, known[p]] += BONUS
            return logits
        if is_whole(tokens):
            rows.append(np.pad(tokens.numpy(), ((0, 0), (0, 1))))
            kept.append(leave(np.concatenate(rows)))
            return peek(logits, tokens)
        return logits

    return answer
