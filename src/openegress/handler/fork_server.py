"""Makes handlers by fork, from a process that has loaded everything they need.

Loading takes half a second of CPU, a fork a hundredth, and all handlers share the loaded memory. Forking is
safe only with a single thread, so nothing here may start another: no event loop, no encoder.
"""

import errno
import os
import select
import signal
import socket

import msgspec

from openegress.core import ipc

_ENCODER = msgspec.msgpack.Encoder()
_DESCRIPTORS = 2
"""The descriptors sent with each request: the handler's end of its channel, and its stderr."""


class ForkServer:
    """A datagram over `control` requests one handler and carries its descriptors (unix(7), SCM_RIGHTS);
    ipc.FromForks reports what happens to it."""

    def __init__(self, control: socket.socket) -> None:
        self._control = control
        self._poll = select.poll()
        self._poll.register(control, select.POLLIN)
        self._running: dict[int, int] = {}
        """Pids of running handlers by pidfd."""

    def serve(self) -> int | None:
        """Serves requests. Returns the channel in a handler, and None in the fork server once the worker has
        hung up. Handlers keep running."""
        while True:
            for descriptor, _ in self._poll.poll():
                if descriptor != self._control.fileno():
                    self._tell_end(descriptor)
                    continue
                asked, descriptors, _, _ = socket.recv_fds(
                    self._control, 1, _DESCRIPTORS, socket.MSG_CMSG_CLOEXEC
                )
                if not asked:
                    return None
                if self._fork(descriptors):
                    return descriptors[0]

    def _fork(self, descriptors: list[int]) -> bool:
        """Forks a handler. Returns True in the handler."""
        try:
            if len(descriptors) < _DESCRIPTORS:
                raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
            pid = os.fork()
            if pid == 0:
                self._become_handler(descriptors[1])
                return True
            self._watch(pid)
        except OSError as error:
            self._tell(ipc.NotForked(error.errno or 0, error.strerror or ""))
        for descriptor in descriptors:
            os.close(descriptor)
        return False

    def _become_handler(self, stderr: int) -> None:
        self._control.close()
        for pidfd in self._running:
            os.close(pidfd)
        os.setsid()  # a Ctrl-C meant for the service does not reach a separate session
        os.dup2(stderr, 2)
        os.close(stderr)

    def _watch(self, pid: int) -> None:
        try:
            pidfd = os.pidfd_open(pid)
        except OSError:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            raise
        self._running[pidfd] = pid
        self._poll.register(pidfd, select.POLLIN)
        self._tell(ipc.Forked(pid), pidfd)

    def _tell_end(self, pidfd: int) -> None:
        self._poll.unregister(pidfd)
        pid = self._running.pop(pidfd)
        os.close(pidfd)
        self._tell(ipc.Exited(pid, os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])))

    def _tell(self, message: ipc.FromForks, *descriptors: int) -> None:
        try:
            socket.send_fds(self._control, [_ENCODER.encode(message)], descriptors)
        except ConnectionError:
            pass  # the worker has hung up: serve() reads the end next
