"""What a process gives up before hostile code runs in it: capabilities, system calls, memory, time, files."""

from __future__ import annotations

import ctypes
import os
import resource

NEW_MOUNTS, NEW_IPC, NEW_PIDS = 0x00020000, 0x08000000, 0x20000000
NO_SUID_DEV_EXEC = 2 | 4 | 8
SET_DUMPABLE, SET_SECCOMP, SET_NO_NEW_PRIVS = 4, 22, 38
MEGABYTE = 1 << 20
PRIVATE = "/private"
"""The only folder that can be written to."""
_libc = ctypes.CDLL(None, use_errno=True)


class _Program(ctypes.Structure):
    _fields_ = [("length", ctypes.c_ushort), ("filter", ctypes.c_char_p)]


def _call(name: str, *arguments: object) -> None:
    if getattr(_libc, name)(*arguments):
        number = ctypes.get_errno()
        raise OSError(number, f"{name}: {os.strerror(number)}")


def hide_memory() -> None:
    """No process of the same user may look into this one."""
    _call("prctl", SET_DUMPABLE, 0, 0, 0, 0)


def separate(disk_mb: int) -> None:
    """Children to come see no process of before, and an empty folder of their own."""
    _call("unshare", NEW_MOUNTS | NEW_IPC | NEW_PIDS)
    _call("mount", b"tmpfs", PRIVATE.encode(), b"tmpfs", NO_SUID_DEV_EXEC, f"size={disk_mb}m,nr_inodes=1000,mode=700".encode())


def drop_capabilities() -> None:
    """Give up every capability of this process, for good. Raises OSError."""
    header = (ctypes.c_uint32 * 2)(0x20080522, 0)
    _call("capset", header, (ctypes.c_uint32 * 6)())


def confine(program: bytes) -> None:
    """Allow only the system calls that the compiled filter lists; every other one fails with EPERM. Nothing undoes this."""
    _call("prctl", SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    _call("prctl", SET_SECCOMP, 2, ctypes.byref(_Program(len(program) // 8, program)), 0, 0)


def limit(memory_mb: int, disk_mb: int, cpu_seconds: int) -> None:
    """Bound address space, size of a file and processor time; one process, 64 open files, no locked memory and no core dumps."""
    limits = {
        resource.RLIMIT_AS: memory_mb * MEGABYTE,
        resource.RLIMIT_FSIZE: disk_mb * MEGABYTE,
        resource.RLIMIT_CPU: cpu_seconds,
        resource.RLIMIT_NPROC: 1,
        resource.RLIMIT_NOFILE: 64,
        resource.RLIMIT_CORE: 0,
        resource.RLIMIT_MEMLOCK: 0,
    }
    for kind, value in limits.items():
        resource.setrlimit(kind, (value, value))
