"""Attacks on files: the locked ones, the system's, and the bounds of what may be written."""

from attacks.walls.arena import CANARY, Arena
from attacks.walls.base import Finding, Oracle, Probe, mounted_file_changed
from attacks.walls.weak import Weaker, bind

NAME = "files"
READ_ONLY = "mount('none', '/locked', '', MS_REMOUNT | MS_BIND | MS_RDONLY)"
WRITE = "put(target)"


def changes(name: str, source: str, control: str = "") -> Probe:
    """Build an attack on the probe's own locked file, which the host checks afterwards."""
    return Probe(name=name, source=source, control=control, oracle=mounted_file_changed)


def file_changed(part: str) -> Oracle:
    """Build an oracle for one certain file."""
    return lambda seen, _name: seen.changed(part)


LOCKED = (
    changes("write a locked file", "put(target, how='r+b')"),
    changes("append to it", WRITE),
    changes("truncate it", "os.truncate(target, 0)"),
    changes("truncate it by opening it to read", "opens(target, os.O_RDONLY | os.O_TRUNC)"),
    changes("unlink it", "os.unlink(target)"),
    changes("rename it", "os.rename(target, target + '.moved')"),
    changes("rename another one over it", "put(target + '.new'); os.rename(target + '.new', target)"),
    changes("chmod it", "os.chmod(target, 0o600)"),
    changes("chown it", "os.chown(target, 1234, 1234)"),
    changes("utime it", "os.utime(target, (1, 1))"),
    changes("create a file beside it", "put(target + '.beside')"),
    changes("link it under another name", "os.link(target, target + '.link')"),
    changes("make an unnamed file beside it", "fd = os.open('/locked', os.O_TMPFILE | os.O_RDWR)\n"
            "if libc.linkat(-100, f'/proc/self/fd/{fd}'.encode(), -100, (target + '.unnamed').encode(), 0x400):\n"
            "  raise OSError(ctypes.get_errno(), 'linkat')"),
    changes("write it through a symlink", "link = '/tmp/' + os.path.basename(target)\n"
            "os.symlink(target, link)\nput(link)"),
    changes("remount it writable", "mount('none', '/locked', '', MS_REMOUNT | MS_BIND)\n" + WRITE, READ_ONLY),
    changes("remount the root writable", "mount('none', '/', '', MS_REMOUNT | MS_BIND)\n" + WRITE, READ_ONLY
            + "\nmount('none', '/locked', '', MS_REMOUNT | MS_BIND)"),
    changes("write it below an unmounted mount", "libc.umount2(b'/mutable/train.py', 2)\n"
            "mount('/locked', '/mutable', '', MS_BIND)\nput('/mutable/' + os.path.basename(target))"),
    Probe(name="bind something over it", source="put('/tmp/forged', b'forged')\nmount('/tmp/forged', target, '', MS_BIND)\n"
          "assert open(target).read().startswith('forged')"),
    changes("reopen it to write by its descriptor", "fd = os.open(target, os.O_RDONLY)\nput(f'/proc/self/fd/{fd}')"),
    changes("write its mapping by /proc/self/mem", "file = open(target, 'r+b') if WEAK else open(target, 'rb')\n"
            "held = libc.mmap\nheld.restype = ctypes.c_void_p\n"
            "at = held(None, ctypes.c_size_t(4096), 3 if WEAK else 1, 1, file.fileno(), ctypes.c_long(0))\n"
            "memory = os.open('/proc/self/mem', os.O_RDWR)\nos.pwrite(memory, b'forged', at)"),
    changes("reopen it by /proc/1/root", "put('/proc/1/root' + target)"),
    changes("reopen it by map_files", "file = open(target, 'r+b') if WEAK else open(target, 'rb')\n"
            "held = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)\n"
            "place = next(l.split()[0] for l in open('/proc/self/maps') if l.rstrip().endswith(target))\n"
            "first, last = (format(int(part, 16), 'x') for part in place.split('-'))\n"
            "put(f'/proc/self/map_files/{first}-{last}', how='r+b')"),
    changes("map it shared and writable", "fd = os.open(target, os.O_RDWR)\n"
            "with mmap.mmap(fd, 0, mmap.MAP_SHARED) as held: held[0] = 65"),
    changes("write it from another process's directory", "fd = os.open('/locked', os.O_RDONLY | os.O_DIRECTORY)\n"
            "if os.fork() == 0:\n  os.close(os.open(os.path.basename(target), os.O_WRONLY | os.O_TRUNC, dir_fd=fd))\n"
            "  os._exit(0)\nos.wait()"),
    changes("punch a hole into it", "fd = os.open(target, os.O_RDWR)\nos.posix_fallocate(fd, 0, 65536)"),
    Probe(name="change train.py itself", source="put('/mutable/train.py', b'#')", oracle=file_changed("/train.py")),
    Probe(name="change the training data", source="put('/data/train/train.txt')", oracle=file_changed("train.txt")),
    Probe(name="change the tokenizer", source="put('/data/tokenizer/tokenizer.txt')", oracle=file_changed("tokenizer.txt")),
    Probe(name="leave a file beside the data", source="put('/data/train/left')", oracle=file_changed("train/left")),
)  # fmt: skip
SYSTEM = (
    *(
        Probe(name=f"write {path}", source=f"put({path!r})")
        for path in ("/canary", "/usr/bin/canary", "/etc/hosts", "/etc/resolv.conf", "/etc/ld.so.preload", "/etc/passwd",
                     "/opt/venv/lib/sitecustomize.py", "/home/canary", "/run/canary", "/var/tmp/canary", "/data/canary")
    ),
    Probe(name="write to site-packages", source="import sysconfig\nput(sysconfig.get_paths()['purelib'] + '/canary.pth')"),
)  # fmt: skip
FIND_WRITABLE = """
declared = {'/tmp', '/cache', '/dev/shm', '/out', '/dev/mqueue'}
places = {line.split()[4] for line in open('/proc/self/mountinfo')} - declared
found = []
for path in places:
    try: put(os.path.join(path, 'canary')); found.append(path)
    except OSError: pass
assert found, 'no other mount can be written to'
"""
RUN = """
shutil.copy('/bin/sleep', '{0}/program')
os.chmod('{0}/program', 0o755)
HELD.append(program := subprocess.Popen(['{0}/program', '3']))
try: assert program.wait(0.2) == 0, 'it does not run'
except subprocess.TimeoutExpired: pass
"""
MAP = "shutil.copy('/bin/true', '/tmp/mapped'); fd = os.open('/tmp/mapped', os.O_RDONLY)\n" \
      "HELD.append(mmap.mmap(fd, 4096, mmap.MAP_PRIVATE, mmap.PROT_READ | mmap.PROT_EXEC))"  # fmt: skip
EXECUTABLE = "mount('none', '{0}', '', MS_REMOUNT | MS_BIND)"
SEARCH = f"""
import glob
canary = {CANARY[:8]!r} + {CANARY[8:]!r}
places = [p for top in ('/data', '/locked', '/out', '/tmp', '/cache', '/dev/shm', '/etc', '/run', '/home', '/mnt', '/srv',
    '/media', '/control', '/answer', '/ask') for p in glob.glob(top + '/**', recursive=True, include_hidden=True)]
places += glob.glob('/proc/[0-9]*/environ') + glob.glob('/proc/[0-9]*/cmdline')
def holds(path):
    try: return os.path.isfile(path) and canary.encode() in open(path, 'rb').read(1 << 24)
    except OSError: return False
assert any(map(holds, places)), f'it is in none of {{len(places)}} places'
"""
OTHERS = """
found = sorted(set(os.listdir('/data')) - {'train', 'tokenizer'})
found += [p for p in ('/control', '/ask', '/answer', '/ask-a', '/answer-b') if os.path.exists(p)]
assert found, 'train and tokenizer only'
"""
BOUNDS = (
    Probe(name="find a writable mount that was not declared", source=FIND_WRITABLE),
    *(
        Probe(name=f"run a program from {place}", source=RUN.format(place), control=EXECUTABLE.format(place))
        for place in ("/tmp", "/dev/shm", "/out")
    ),
    Probe(name="map a program from /tmp", source=MAP),
    Probe(
        name="find a shared mount",
        sees=lambda fact: fact.startswith("mount ") and " shared:" in fact,
        source="assert any(' shared:' in line for line in open('/proc/self/mountinfo')), 'every mount is private'",
        control="libc.mount(b'none', b'/', None, MS_SHARED, None)",
    ),
    *(
        Probe(name=f"make a {kind} device node", source=f"os.mknod('/cache/{kind}', {mode}, os.makedev({numbers}))\n"
              f"with contextlib.suppress(OSError): opens('/cache/{kind}', os.O_RDONLY)")
        for kind, mode, numbers in (("character", "stat.S_IFCHR | 0o666", "1, 11"), ("block", "stat.S_IFBLK | 0o666", "7, 0"))
    ),
    Probe(name="open a device beyond the harmless ones", source="known = {'console', 'core', 'fd', 'full', 'mqueue', 'null',"
          " 'ptmx', 'pts', 'random', 'shm', 'stderr', 'stdin', 'stdout', 'tty', 'urandom', 'zero'}\n"
          "found = set(os.listdir('/dev')) - known\nassert found, 'there is none'"),
    Probe(name="make a setuid copy of a program", source="shutil.copy('/bin/true', '/cache/root')\n"
          "os.chown('/cache/root', 0, 0)\nos.chmod('/cache/root', 0o4755)\nopens('/cache/root', os.O_RDONLY)"),
    *(
        Probe(name=f"fill {place} past its size", source=f"fill({place!r}, 17)")
        for place in ("/tmp", "/cache", "/dev/shm", "/out")
    ),
    Probe(name="make a file of a terabyte", source="HELD.append(f := open('/tmp/sparse', 'wb'))\n"
          "os.unlink('/tmp/sparse')\nf.truncate(1 << 40)"),
    Probe(name="fill /dev/mqueue", source="for i in range(300): opens(f'/dev/mqueue/{i}', os.O_CREAT | os.O_RDWR)",
          control="try: limit(resource.RLIMIT_MSGQUEUE, resource.RLIM_INFINITY)\n"
          "except OSError: raise Absent('the right to raise a limit of message queues')"),
    Probe(name="find the validation text", source=SEARCH),
    Probe(name="find data or channels of other containers", source=OTHERS),
    *(
        Probe(name=f"make more files than may be in {place}", source=f"many({place!r})",
              control="mount('none', '/out', 'tmpfs', 0)" if place == "/out" else "")
        for place in ("/out", "/dev/shm", "/tmp", "/cache")  # where files are not counted, memory ends it: so these come last
    ),
)  # fmt: skip
PROBES = (*LOCKED, *SYSTEM, *BOUNDS)


def run(arena: Arena) -> list[Finding]:
    """Run all probes; the weak container also gets the validation data."""
    task = arena.scratch / "validation"
    task.mkdir()
    (task / "val.txt").write_text(CANARY, encoding="utf-8")
    return arena.shared(NAME, PROBES, weaker=Weaker(mounts=(bind(task, "/data/val"),)))
