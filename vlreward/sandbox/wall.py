"""The outer wall: the bubblewrap command, and the list of system calls that a script may make."""

from __future__ import annotations

import base64
import ctypes
import fcntl
import importlib.util
import json
import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import termios
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path

from vlreward.errors import ConfigError
from vlreward.sandbox.inside.process import PRIVATE


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What one script may take."""

    cpu_seconds: int = 10
    wall_seconds: int = 60
    """Far above the processor time, since a busy machine makes a good script wait."""
    replay_seconds: int = 10
    """Processor time for drawing its figure again."""
    memory_mb: int = 1024
    disk_mb: int = 32
    output_mb: int = 24
    """Of the document that describes its figure."""


START = "import sys; sys.path[:0] = sys.argv.pop(1).split(':'); from vlreward.sandbox.inside.zygote import main; main()"
ENVIRONMENT = {
    "HOME": PRIVATE,
    "LC_ALL": "C.UTF-8",
    "MALLOC_MMAP_THRESHOLD_": str(1 << 28),  # freed arrays are used again instead of being faulted in anew
    "MALLOC_TOP_PAD_": str(1 << 24),
    "MALLOC_TRIM_THRESHOLD_": str(1 << 28),
    "MPLBACKEND": "agg",
    "MPLCONFIGDIR": PRIVATE,
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "PATH": "/nowhere",
    "PYTHONHASHSEED": "0",
    "SOURCE_DATE_EPOCH": "0",
    "TMPDIR": PRIVATE,
    "TZ": "UTC",
}
ALLOWED = """
access arch_prctl brk chdir clock_getres clock_gettime clock_nanosleep close close_range copy_file_range dup dup2 dup3 epoll_create
epoll_create1 epoll_ctl epoll_pwait epoll_wait eventfd2 exit exit_group faccessat faccessat2 fadvise64 fallocate fchdir fdatasync fstat
fstatfs fsync ftruncate futex getcwd getdents getdents64 getegid geteuid getgid getgroups getitimer getpgid getpgrp getpid getppid
getpriority getrandom getresgid getresuid getrlimit getrusage getsid gettid gettimeofday getuid lseek lstat madvise membarrier mincore mkdir
mkdirat mmap mprotect mremap msync munmap nanosleep newfstatat open openat pipe pipe2 poll ppoll pread64 preadv preadv2 prlimit64 pselect6
pwrite64 pwritev pwritev2 read readlink readlinkat readv rename renameat renameat2 restart_syscall rmdir rseq rt_sigaction rt_sigpending
rt_sigprocmask rt_sigreturn rt_sigsuspend rt_sigtimedwait sched_getaffinity sched_getparam sched_getscheduler sched_yield select sendfile
set_robust_list set_tid_address setitimer sigaltstack stat statfs statx symlink symlinkat sysinfo time times truncate umask uname unlink
unlinkat write writev
""".split()
"""No clone, fork or exec (one process, one thread), no sockets, no signals to anyone, no mounts, namespaces, keys, tracing or io_uring.
No chmod or utime either: the two devices are the machine's own, and their owner may be who runs this."""
COMMANDS = {
    "fcntl": (fcntl.F_DUPFD, fcntl.F_DUPFD_CLOEXEC, fcntl.F_GETFD, fcntl.F_SETFD, fcntl.F_GETFL, fcntl.F_SETFL),
    "ioctl": (termios.FIOCLEX, termios.FIONCLEX, termios.FIONBIO, termios.FIONREAD, termios.TCGETS, termios.TIOCGWINSZ),
}
"""What may be asked of an open file. No locks or leases: those would hold on the machine's own files."""
ERRNO_EPERM, ALLOW, FILTER_OPTIMIZE, EQUAL = 0x00050001, 0x7FFF0000, 8, 4


def command(limits: Limits) -> list[str]:
    """The command that starts a sandbox, which then answers on standard input and output. Raises ConfigError."""
    check()
    setup = json.dumps(asdict(limits) | {"filter": base64.b64encode(syscall_filter()).decode()})
    return [*walls(), interpreter(), "-sSBP", "-c", START, ":".join(map(str, search_path())), setup]


def check() -> None:
    """Raises ConfigError, with the remedy, where scripts cannot be run safely on this machine."""
    if shutil.which("bwrap") is None:
        raise ConfigError("running generated code needs bubblewrap, which is not installed (Debian: apt-get install bubblewrap)")
    if importlib.util.find_spec("matplotlib") is None:
        raise ConfigError("running chart code needs the extra 'chart': pip install 'vlreward[chart]'")
    syscall_filter()
    done = subprocess.run([*walls(), interpreter(), "-sSBP", "-c", ""], capture_output=True, text=True, check=False)
    if done.returncode:
        reason = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
        raise ConfigError(
            f"running generated code needs bubblewrap, which may not make user namespaces here ({reason}); allow them, by "
            "`sysctl kernel.apparmor_restrict_unprivileged_userns=0` on Ubuntu or --security-opt seccomp=unconfined in a container"
        )


def walls() -> list[str]:
    """bubblewrap with all its options, to be followed by a program."""
    parts = ["bwrap", "--unshare-user", "--unshare-all", "--die-with-parent", "--new-session", "--clearenv"]
    parts += ["--hostname", "sandbox", "--cap-drop", "ALL", "--cap-add", "CAP_SYS_ADMIN"]  # in its own user namespace only
    for name, value in ENVIRONMENT.items():
        parts += ["--setenv", name, value]
    for place in visible():
        parts += ["--ro-bind", str(place), str(place)]
    for link in ("/lib", "/lib64"):
        if os.path.islink(link):
            parts += ["--symlink", os.readlink(link), link]
    if not any(place.is_relative_to("/tmp") for place in visible()):
        parts += ["--symlink", PRIVATE, "/tmp"]
    parts += ["--dev-bind", "/dev/null", "/dev/null", "--dev-bind", "/dev/urandom", "/dev/urandom", "--tmpfs", PRIVATE]
    return [*parts, "--remount-ro", "/", "--chdir", PRIVATE, "--"]


def interpreter() -> str:
    """The Python that runs in the sandbox: the one behind this environment's, since links do not lead out of the wall."""
    return os.path.realpath(getattr(sys, "_base_executable", sys.executable))


def search_path() -> list[Path]:
    """Where the sandbox's Python finds this package and installed ones; no .pth file is read there."""
    installed = [Path(place) for place in sys.path if Path(place).name in ("site-packages", "dist-packages")]
    return [Path(__file__).resolve().parents[2], *installed]


def visible() -> list[Path]:
    """Files and folders that Python, its packages and the system's libraries consist of. Nothing else of the machine is there."""
    package = Path(__file__).resolve().parents[1]
    paths = sysconfig.get_paths()
    wanted = [Path(interpreter()), Path(paths["stdlib"]), Path(paths["platstdlib"]), Path(sys.base_prefix) / "lib"]
    wanted += [Path("/usr/lib"), Path("/usr/lib64"), Path("/etc/ld.so.cache")]
    wanted += [Path(link) for link in ("/lib", "/lib64") if not os.path.islink(link)]
    wanted += [*search_path()[1:], package / "__init__.py", package / "sandbox"]
    kept: list[Path] = []
    for place in dict.fromkeys(wanted):
        if place.exists() and not any(place.is_relative_to(other) for other in kept):
            kept.append(place)
    return kept


class _Condition(ctypes.Structure):
    _fields_ = [("argument", ctypes.c_uint), ("comparison", ctypes.c_int), ("value", ctypes.c_uint64), ("other", ctypes.c_uint64)]


@cache
def syscall_filter() -> bytes:
    """The allowed system calls as a compiled filter for this processor. Raises ConfigError."""
    try:
        library = ctypes.CDLL("libseccomp.so.2")
    except OSError:
        raise ConfigError("running generated code needs libseccomp, which is not installed (Debian: apt-get install libseccomp2)") from None
    library.seccomp_init.restype = ctypes.c_void_p
    context = ctypes.c_void_p(library.seccomp_init(ctypes.c_uint32(ERRNO_EPERM)))
    library.seccomp_attr_set(context, FILTER_OPTIMIZE, 2)  # a binary tree; older libraries keep their list
    rules = [(name, None) for name in ALLOWED] + [(name, value) for name, values in COMMANDS.items() for value in values]
    for name, value in rules:
        number = library.seccomp_syscall_resolve_name(name.encode())
        if number >= 0:
            condition = None if value is None else ctypes.byref(_Condition(1, EQUAL, value, 0))
            failed = library.seccomp_rule_add_array(context, ctypes.c_uint32(ALLOW), number, int(condition is not None), condition)
            assert not failed, f"libseccomp refuses a rule for {name}"
    with tempfile.TemporaryFile() as file:
        failed = library.seccomp_export_bpf(context, file.fileno())
        assert not failed, "libseccomp cannot export the filter"
        file.seek(0)
        return file.read()
