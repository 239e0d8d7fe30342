"""Seccomp (seccomp(2)): a process permanently gives up system calls, in all its threads.

Loads our own filter through ctypes, without libseccomp on the host: its binding on PyPI, pyseccomp, has had
no release since 2021.
"""

import ctypes
import errno
import os
import platform
import struct
from dataclasses import dataclass
from enum import Enum, auto

_PR_SET_NO_NEW_PRIVS = 38
_SET_MODE_FILTER, _TSYNC = 1, 1
_GET_ACTION_AVAIL = 2
_RET_ERRNO, _RET_ALLOW = 0x0005_0000, 0x7FFF_0000
_LOAD, _EQUAL, _AT_LEAST, _ANY_BIT, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
"""BPF_LD|BPF_W|BPF_ABS, BPF_JMP|BPF_JEQ|BPF_K, |BPF_JGE, |BPF_JSET, BPF_RET|BPF_K of linux/bpf_common.h."""
_NUMBER, _ARCHITECTURE, _ARGUMENT_0, _ARGUMENT_BYTES = 0, 4, 16, 8
"""Offsets in struct seccomp_data; for an argument, its lower half on a little-endian machine."""
_X32 = 0x4000_0000
"""The bit that is set in calls of x86-64's other ABI."""
_CLONE_THREAD = 0x0001_0000
_FAMILIES = (2, 10, 16)
"""AF_INET, AF_INET6, AF_NETLINK: libc learns addresses from the last."""
_AF_UNIX = 1
_NOT_STREAM = 0b110
"""Bits of SOCK_DGRAM and SOCK_SEQPACKET that SOCK_STREAM lacks: one end of a datagram pair can be connected
elsewhere."""


class UnixSockets(Enum):
    """Whether a process may connect Unix sockets. Landlock does not restrict connecting to sockets with a
    path, such as other recordings' displays and sound servers."""

    ALLOWED = auto()
    """All connections are allowed: pages need their display and sound server."""
    REFUSED = auto()
    """Only pairs of stream sockets work, which reach nobody else."""


_DENIED: dict[str, tuple[int | None, int | None]] = {
    # Starting programs, reaching into other processes.
    "fork": (57, None),
    "vfork": (58, None),
    "execve": (59, 221),
    "execveat": (322, 281),
    "ptrace": (101, 117),
    "process_vm_readv": (310, 270),
    "process_vm_writev": (311, 271),
    "process_madvise": (440, 440),
    "pidfd_getfd": (438, 438),
    "kcmp": (312, 272),
    "move_pages": (279, 239),
    "migrate_pages": (256, 238),
    # Permissions and owners of files, which Landlock does not cover.
    "chmod": (90, None),
    "fchmodat": (268, 53),
    "fchmodat2": (452, 452),
    "chown": (92, None),
    "lchown": (94, None),
    "fchown": (93, 55),
    "fchownat": (260, 54),
    "setxattr": (188, 5),
    "lsetxattr": (189, 6),
    "fsetxattr": (190, 7),
    "removexattr": (197, 14),
    "lremovexattr": (198, 15),
    "fremovexattr": (199, 16),
    "open_by_handle_at": (304, 265),
    # Another view of the machine.
    "unshare": (272, 97),
    "setns": (308, 268),
    "mount": (165, 40),
    "umount2": (166, 39),
    "pivot_root": (155, 41),
    "chroot": (161, 51),
    "move_mount": (429, 429),
    "open_tree": (428, 428),
    "fsopen": (430, 430),
    "fsconfig": (431, 431),
    "fsmount": (432, 432),
    "fspick": (433, 433),
    "mount_setattr": (442, 442),
    # Parts of the kernel that no recording needs and that attacks often use.
    "bpf": (321, 280),
    "perf_event_open": (298, 241),
    "userfaultfd": (323, 282),
    "io_uring_setup": (425, 425),
    "io_uring_enter": (426, 426),
    "io_uring_register": (427, 427),
    "add_key": (248, 217),
    "request_key": (249, 218),
    "keyctl": (250, 219),
    "init_module": (175, 105),
    "finit_module": (313, 273),
    "delete_module": (176, 106),
    "kexec_load": (246, 104),
    "kexec_file_load": (320, 294),
    "personality": (135, 92),
    "swapon": (167, 224),
    "swapoff": (168, 225),
    "reboot": (169, 142),
    "settimeofday": (164, 170),
    "clock_settime": (227, 112),
    "quotactl": (179, 60),
    "acct": (163, 89),
    "syslog": (103, 116),
    "sethostname": (170, 161),
    "setdomainname": (171, 162),
    # What processes of one user share without a file, including other recordings' pictures.
    "shmget": (29, 194),
    "shmat": (30, 196),
    "shmctl": (31, 195),
    "semget": (64, 190),
    "semop": (65, 193),
    "semctl": (66, 191),
    "semtimedop": (220, 192),
    "msgget": (68, 186),
    "msgsnd": (69, 189),
    "msgrcv": (70, 188),
    "msgctl": (71, 187),
    "mq_open": (240, 180),
    "mq_unlink": (241, 181),
    "ioprio_set": (251, 30),
}
"""Numbers of forbidden calls by architecture: x86-64, aarch64 (asm/unistd_64.h, asm-generic/unistd.h)."""


_OWN: dict[str, tuple[int, int, tuple[int, ...]]] = {
    "prlimit64": (302, 261, (0,)),
    "setpriority": (141, 140, (0, 1)),  # PRIO_PROCESS is 0 as well
    "sched_setparam": (142, 118, (0,)),
    "sched_setscheduler": (144, 119, (0,)),
    "sched_setaffinity": (203, 122, (0,)),
    "sched_setattr": (314, 274, (0,)),
}
"""Calls that a thread may make on itself only: the arguments that must be 0."""


@dataclass(frozen=True, slots=True)
class Architecture:
    audit: int
    """AUDIT_ARCH_* of linux/audit.h."""
    denied: tuple[int, ...]
    own: tuple[tuple[int, tuple[int, ...]], ...]
    clone: int
    clone3: int
    socket: int
    socketpair: int
    seccomp: int


def _denied(column: int) -> tuple[int, ...]:
    return tuple(number for each in _DENIED.values() if (number := each[column]) is not None)


_OWN_X86 = tuple((number, zero) for number, _, zero in _OWN.values())
_OWN_ARM = tuple((number, zero) for _, number, zero in _OWN.values())
ARCHITECTURES = {
    "x86_64": Architecture(0xC000_003E, _denied(0), _OWN_X86, 56, 435, 41, 53, 317),
    "aarch64": Architecture(0xC000_00B7, _denied(1), _OWN_ARM, 220, 435, 198, 199, 277),
}
"""Supported architectures by platform.machine()."""

_libc = ctypes.CDLL(None, use_errno=True)


def _here() -> Architecture | None:
    return ARCHITECTURES.get(platform.machine())


def is_there() -> bool:
    """Whether the kernel filters system calls, and the filter supports this architecture."""
    here = _here()
    if here is None:
        return False
    action = ctypes.c_uint32(_RET_ERRNO)
    return int(_libc.syscall(here.seccomp, _GET_ACTION_AVAIL, 0, ctypes.byref(action))) == 0


def restrict(unix_sockets: UnixSockets) -> bool:
    """Forbids all threads of this process to start programs or processes, to look into other processes or
    slow them down, and to make any other call in _DENIED, which then fails with EPERM. Returns False if
    nothing was restricted. Raises OSError."""
    here = _here()
    if here is None or not is_there():
        return False
    code = program(here, unix_sockets)
    buffer = ctypes.create_string_buffer(code, len(code))

    class Program(ctypes.Structure):
        _fields_ = (("length", ctypes.c_ushort), ("filter", ctypes.c_void_p))

    fprog = Program(len(code) // 8, ctypes.addressof(buffer))
    if _libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0:
        raise _error()
    result = _libc.syscall(here.seccomp, _SET_MODE_FILTER, _TSYNC, ctypes.byref(fprog))
    if result < 0:
        raise _error()
    if result > 0:
        raise OSError(errno.ESRCH, f"thread {result} could not be restricted")
    return True


def program(of: Architecture, unix_sockets: UnixSockets) -> bytes:
    """The filter, as an array of struct sock_filter."""
    refused, absent = _RET_ERRNO | errno.EPERM, _RET_ERRNO | errno.ENOSYS
    code = [
        (_LOAD, 0, 0, _ARCHITECTURE),
        (_EQUAL, 1, 0, of.audit),
        (_RETURN, 0, 0, refused),
        (_LOAD, 0, 0, _NUMBER),
        (_AT_LEAST, 0, 1, _X32),
        (_RETURN, 0, 0, refused),
    ]
    for number in of.denied:
        code += [(_EQUAL, 0, 1, number), (_RETURN, 0, 0, refused)]
    code += [
        # A filter cannot see its flags; libc falls back to clone without clone3.
        (_EQUAL, 0, 1, of.clone3),
        (_RETURN, 0, 0, absent),
        # Allows a thread but not a process.
        (_EQUAL, 0, 4, of.clone),
        (_LOAD, 0, 0, _ARGUMENT_0),
        (_ANY_BIT, 0, 1, _CLONE_THREAD),
        (_RETURN, 0, 0, _RET_ALLOW),
        (_RETURN, 0, 0, refused),
    ]
    for number, zero in of.own:
        code.append((_EQUAL, 0, 3 * len(zero) + 1, number))
        for argument in zero:
            code += [
                (_LOAD, 0, 0, _ARGUMENT_0 + argument * _ARGUMENT_BYTES),
                (_EQUAL, 1, 0, 0),
                (_RETURN, 0, 0, refused),
            ]
        code.append((_RETURN, 0, 0, _RET_ALLOW))
    families: tuple[int, ...] = _FAMILIES
    if unix_sockets is UnixSockets.ALLOWED:
        families = (*families, _AF_UNIX)
    else:
        code += [
            (_EQUAL, 0, 4, of.socketpair),
            (_LOAD, 0, 0, _ARGUMENT_0 + _ARGUMENT_BYTES),
            (_ANY_BIT, 0, 1, _NOT_STREAM),
            (_RETURN, 0, 0, refused),
            (_RETURN, 0, 0, _RET_ALLOW),
        ]
    code += [(_EQUAL, 0, 2 * len(families) + 2, of.socket), (_LOAD, 0, 0, _ARGUMENT_0)]
    for family in families:
        code += [(_EQUAL, 0, 1, family), (_RETURN, 0, 0, _RET_ALLOW)]
    code += [(_RETURN, 0, 0, refused), (_RETURN, 0, 0, _RET_ALLOW)]
    return b"".join(struct.pack("=HBBI", *each) for each in code)


def _error() -> OSError:
    number = ctypes.get_errno()
    return OSError(number, os.strerror(number))
