"""What Linux offers to confine a process, as Python has no names for it: a few system calls through ``ctypes``.

Every function raises ``OSError`` where the kernel refuses or does not know it. None is called when
this module is imported, and off Linux none is called at all.
"""

import ctypes
import os
import platform
import struct
from collections.abc import Sequence
from typing import Final

_PR_SET_PDEATHSIG: Final = 1
_PR_SET_KEEPCAPS: Final = 8
_PR_SET_SECCOMP: Final = 22
_PR_SET_CHILD_SUBREAPER: Final = 36
_PR_SET_NO_NEW_PRIVS: Final = 38

CLONE_NEWNS: Final = 0x0002_0000
CLONE_NEWUSER: Final = 0x1000_0000
CLONE_NEWNET: Final = 0x4000_0000
_CLONE_THREAD: Final = 0x0001_0000

_MS_NOSUID, _MS_NODEV, _MS_NOEXEC, _MS_REC, _MS_PRIVATE = 2, 4, 8, 16_384, 1 << 18
_MNT_DETACH: Final = 2

CAP_DAC_READ_SEARCH: Final = 2
_CAPABILITY_VERSION_3: Final = 0x2008_0522


def _call(name: str, *arguments: object) -> int:
    libc = ctypes.CDLL(None, use_errno=True)
    result = int(getattr(libc, name)(*arguments))
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{name}: {os.strerror(number)}")
    return result


def _prctl(option: int, value: int, more: object = None) -> None:
    _call("prctl", ctypes.c_int(option), ctypes.c_ulong(value), more, ctypes.c_ulong(0), ctypes.c_ulong(0))


def die_with_parent(signal_number: int) -> None:
    """Have the kernel send this signal when the parent ends. A change of user undoes it."""
    _prctl(_PR_SET_PDEATHSIG, signal_number)


def adopt_orphans() -> None:
    """Become the parent of whatever this process's descendants leave behind."""
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)


def forbid_new_privileges() -> None:
    """No program started from here on gains rights by its owner or its capabilities."""
    _prctl(_PR_SET_NO_NEW_PRIVS, 1)


def keep_capabilities() -> None:
    """Let ``limit_capabilities`` choose after a change of user, which would otherwise take all."""
    _prctl(_PR_SET_KEEPCAPS, 1)


def limit_capabilities(*kept: int) -> None:
    """Give up every capability but these (numbers below 32)."""
    mask = sum(1 << number for number in kept)
    header = struct.pack("<Ii", _CAPABILITY_VERSION_3, 0)
    _call("capset", header, struct.pack("<IIIIII", mask, mask, 0, 0, 0, 0))


# --- Namespaces and mounts ----------------------------------------------------------------


def unshare(flags: int) -> None:
    """Leave the namespaces of the others (``CLONE_NEW…``)."""
    _call("unshare", ctypes.c_int(flags))


def keep_mounts_private() -> None:
    """What this mount namespace mounts is seen by no other."""
    _call("mount", b"none", b"/", None, ctypes.c_ulong(_MS_REC | _MS_PRIVATE), None)


def mount_memory(path: str, *, size_bytes: int, inodes: int, owner: int) -> None:
    """Put an empty file system in memory at ``path``, for its owner alone."""
    options = f"size={size_bytes},nr_inodes={inodes},mode=700,uid={owner},gid={owner}"
    flags = ctypes.c_ulong(_MS_NOSUID | _MS_NODEV | _MS_NOEXEC)
    _call("mount", b"tmpfs", os.fsencode(path), b"tmpfs", flags, options.encode())


def unmount(path: str) -> None:
    """Take a file system away, whoever still uses it."""
    _call("umount2", os.fsencode(path), ctypes.c_int(_MNT_DETACH))


# --- Landlock: which files ----------------------------------------------------------------

_LANDLOCK_CREATE, _LANDLOCK_ADD, _LANDLOCK_RESTRICT = 444, 445, 446
_LANDLOCK_VERSION: Final = 1
_RULE_PATH_BENEATH: Final = 1
_READ_FILE, _READ_DIR, _WRITE_FILE = 1 << 2, 1 << 3, 1 << 1
READ: Final = _READ_FILE | _READ_DIR
_ALL_BUT_EXECUTE: Final = 0xFFFF & ~1
"""Every right over files the latest version knows, without running them."""
_FILE_ONLY: Final = _READ_FILE | _WRITE_FILE | (1 << 14) | (1 << 15)
_RIGHTS_BY_VERSION: Final = {1: (1 << 13) - 1, 2: (1 << 14) - 1, 3: (1 << 15) - 1, 4: (1 << 15) - 1, 5: (1 << 16) - 1}
_TCP: Final = 0b11
_ABSTRACT_SOCKETS_AND_SIGNALS: Final = 0b11


def landlock_version() -> int:
    """The kernel's version of Landlock."""
    return _call("syscall", ctypes.c_long(_LANDLOCK_CREATE), None, ctypes.c_size_t(0), ctypes.c_uint(_LANDLOCK_VERSION))


def landlock_ruleset(readable: Sequence[int], writable: Sequence[int]) -> int:
    """A ruleset for ``landlock``, as a descriptor.

    Args:
        readable: descriptors (``O_PATH``) of folders and files that may be read, with all that lies under them.
        writable: the same for those where everything but running programs is allowed.
    """
    version = landlock_version()
    handled = _RIGHTS_BY_VERSION.get(version, _RIGHTS_BY_VERSION[5])
    attributes = struct.pack(
        "<QQQ", handled, _TCP if version >= 4 else 0, _ABSTRACT_SOCKETS_AND_SIGNALS if version >= 6 else 0
    )
    size = 24 if version >= 6 else 16 if version >= 4 else 8
    create = ctypes.c_long(_LANDLOCK_CREATE)
    ruleset = _call("syscall", create, attributes, ctypes.c_size_t(size), ctypes.c_uint(0))
    for fds, rights in ((readable, READ), (writable, _ALL_BUT_EXECUTE & handled)):
        for fd in fds:
            allowed = rights if _is_folder(fd) else rights & _FILE_ONLY & handled
            rule = struct.pack("<Qi", allowed, fd)
            kind = ctypes.c_int(_RULE_PATH_BENEATH)
            _call("syscall", ctypes.c_long(_LANDLOCK_ADD), ctypes.c_int(ruleset), kind, rule, ctypes.c_uint(0))
    return ruleset


def landlock(ruleset: int) -> None:
    """Hold this process to a ruleset for good. Needs ``forbid_new_privileges``."""
    _call("syscall", ctypes.c_long(_LANDLOCK_RESTRICT), ctypes.c_int(ruleset), ctypes.c_uint(0))


def _is_folder(fd: int) -> bool:
    return (os.fstat(fd).st_mode & 0o170_000) == 0o040_000


# --- Seccomp: which system calls ----------------------------------------------------------

_FORBIDDEN: Final[dict[str, tuple[int, int | None]]] = {
    # Sockets of any kind: a pair of connected ones, which is all a parser has, is made by another call.
    "socket": (41, 198),
    # Processes and programs; threads stay possible.
    "fork": (57, None),
    "vfork": (58, None),
    "execve": (59, 221),
    "execveat": (322, 281),
    # Other processes.
    "ptrace": (101, 117),
    "process_vm_readv": (310, 270),
    "process_vm_writev": (311, 271),
    "pidfd_getfd": (438, 438),
    "process_madvise": (440, 440),
    # Memory that no limit counts.
    "memfd_create": (319, 279),
    "shmget": (29, 194),
    "userfaultfd": (323, 282),
    # Files by handle, and mounts, which go round Landlock.
    "name_to_handle_at": (303, 264),
    "open_by_handle_at": (304, 265),
    "mount": (165, 40),
    "umount2": (166, 39),
    "pivot_root": (155, 41),
    "chroot": (161, 51),
    "open_tree": (428, 428),
    "move_mount": (429, 429),
    "fsopen": (430, 430),
    "mount_setattr": (442, 442),
    "unshare": (272, 97),
    "setns": (308, 268),
    # Large and seldom used parts of the kernel, where its own faults are found.
    "io_uring_setup": (425, 425),
    "io_uring_enter": (426, 426),
    "io_uring_register": (427, 427),
    "bpf": (321, 280),
    "perf_event_open": (298, 241),
    "add_key": (248, 217),
    "request_key": (249, 218),
    "keyctl": (250, 219),
    "init_module": (175, 105),
    "finit_module": (313, 273),
    "delete_module": (176, 106),
    "kexec_load": (246, 104),
    "kexec_file_load": (320, 294),
}
"""Numbers of system calls a parser has no use for, on x86-64 and on 64-bit ARM."""
_MACHINES: Final = {"x86_64": (0, 0xC000_003E, 56), "aarch64": (1, 0xC000_00B7, 220)}
"""Column in the table above, audit architecture, number of ``clone``."""
_CLONE3: Final = 435
_X32: Final = 0x4000_0000

_LOAD, _JUMP_EQUAL, _JUMP_AT_LEAST, _JUMP_ANY_BIT, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
_ALLOW, _KILL, _ERRNO = 0x7FFF_0000, 0x8000_0000, 0x0005_0000
_EPERM, _ENOSYS = 1, 38
_AT_NUMBER, _AT_ARCHITECTURE, _AT_FIRST_ARGUMENT = 0, 4, 16


def forbid_system_calls() -> None:
    """Refuse network, processes and what else a parser has no use for. Needs ``forbid_new_privileges``."""
    program = _filter(platform.machine())
    instructions = ctypes.create_string_buffer(program)
    # struct sock_fprog: a 16-bit count, then, aligned, a pointer.
    described = struct.pack("@HP", len(program) // 8, ctypes.addressof(instructions))
    _prctl(_PR_SET_SECCOMP, 2, described)


def _filter(machine: str) -> bytes:
    """The filter as a classic BPF program. Each line: operation, jump if true, jump if false, operand."""
    if machine not in _MACHINES:
        raise OSError(_ENOSYS, f"no filter for {machine}")
    column, architecture, clone = _MACHINES[machine]
    forbidden = [number for row in _FORBIDDEN.values() if (number := row[column]) is not None]
    refuse, unknown, allow = _ERRNO | _EPERM, _ERRNO | _ENOSYS, _ALLOW
    lines = [
        (_LOAD, 0, 0, _AT_ARCHITECTURE),
        (_JUMP_EQUAL, 1, 0, architecture),
        (_RETURN, 0, 0, _KILL),
        (_LOAD, 0, 0, _AT_NUMBER),
        (_JUMP_AT_LEAST, 0, 1, _X32),
        (_RETURN, 0, 0, refuse),
        # The C library asks for threads with clone3 first, whose flags a filter cannot see, and then with clone.
        (_JUMP_EQUAL, 0, 1, _CLONE3),
        (_RETURN, 0, 0, unknown),
    ]
    for number in forbidden:
        lines += [(_JUMP_EQUAL, 0, 1, number), (_RETURN, 0, 0, refuse)]
    lines += [
        (_JUMP_EQUAL, 0, 3, clone),
        (_LOAD, 0, 0, _AT_FIRST_ARGUMENT),
        (_JUMP_ANY_BIT, 1, 0, _CLONE_THREAD),
        (_RETURN, 0, 0, refuse),
        (_RETURN, 0, 0, allow),
    ]
    return b"".join(struct.pack("<HBBI", *line) for line in lines)
