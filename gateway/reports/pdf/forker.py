"""Runs a program in a process of its own for each document, without starting Python anew for each. Run as a program by
:mod:`gateway.reports.pdf.warm`, by whose socket (its standard input) it is told what to do; it ends with that socket.

It has loaded what the programs need, and has never seen a document: each is seen only by a process that is forked for
it and ends with it. It imports nothing of the gateway and has no environment, so it holds no secret either.
"""

from __future__ import annotations

import contextlib
import gc
import os
import select
import signal
import socket
import sys
from pathlib import Path

import pypdf  # noqa: F401  (loaded once, for all)

MAX_REQUEST = 4096
"""Bytes: the path of a program."""


def serve(control: socket.socket) -> None:
    """Takes requests until nobody can send any: a program's path, with two sockets, its standard input and output."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for those who watch
    gc.freeze()  # what is loaded stays shared
    while True:
        request, fds, _, _ = socket.recv_fds(control, MAX_REQUEST, 2)
        if not request:
            return
        try:
            if len(fds) == 2 and not os.fork():
                control.close()
                watch(request.decode(), *fds)
        except OSError:
            pass  # who asked hears nothing, and then that the sockets are closed
        finally:
            for fd in fds:
                os.close(fd)


def watch(program: str, given: int, result: int) -> None:
    """Has a process do it, and tells behind what that wrote how it ended; ends it once nobody wants to know."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    child = os.fork()
    if not child:
        do(program, given, result)
    os.close(given)
    os.close(0)  # the socket of requests
    ending = os.pidfd_open(child)
    poll = select.poll()
    poll.register(ending, select.POLLIN)
    poll.register(result, 0)
    if not any(fd == ending for fd, _ in poll.poll()):
        os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    with contextlib.suppress(OSError):
        os.write(result, b"\n%d" % os.waitstatus_to_exitcode(status))
    os._exit(0)


def do(program: str, given: int, result: int) -> None:
    """Runs a program as Python would run it."""
    code = 1
    try:
        os.dup2(given, 0)
        os.dup2(result, 1)
        os.close(given)
        os.close(result)
        source = compile(Path(program).read_bytes(), program, "exec")
        exec(source, {"__name__": "__main__", "__file__": program})  # noqa: S102  (it is what this is for)
        code = 0
    except SystemExit as e:
        code = e.code if isinstance(e.code, int) else 1
    except BaseException:  # noqa: S110  (there is nobody to tell but by the code)
        pass
    finally:
        with contextlib.suppress(BaseException):
            sys.stdout.flush()
        os._exit(code)


if __name__ == "__main__":
    serve(socket.socket(fileno=os.dup(0)))
