"""Forks of an interpreter that has imported the libraries and done nothing else, for work that needs a fresh process.

Importing torch, transformers and peft takes seconds, often more than the work that they are imported for. A fork server
is an interpreter that only imports: no data, no model and no plugin of a user ever enters it. What is forked from it
knows as little of any run as a new interpreter does, and runs the same program. Strings hash in it as in no process
that has trained, so what depends on the order of a set is still noticed.

For Linux, and for work that needs no GPU: elsewhere libraries start threads as they are imported, and CUDA does not
outlive a fork.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import warnings
from collections.abc import Sequence
from contextlib import ExitStack
from typing import IO

from evalsuite.environment import without_launcher

FLAG = "--fork-server"
LONGEST_REQUEST = 1 << 16  # bytes


class ForkServer:
    """The server of one program, ``python -m MODULE``, which calls ``forked`` where it is started with ``FLAG``.

    It is there at once, and imports while the caller goes on with other things.
    """

    def __init__(self, module: str) -> None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-m", module, FLAG, str(theirs.fileno())],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                env=without_launcher(),
                pass_fds=[theirs.fileno()],
            )
        self._channel = ours

    def run(self, arguments: Sequence[str], text: str, seconds: int) -> subprocess.CompletedProcess[str]:
        """What ``subprocess.run`` gives for the program with ``text`` on its stdin, which never touches the disk.

        Raises:
            TimeoutExpired: it took longer than ``seconds``, and was killed.
            ConnectionError: the server has died.
        """
        with ExitStack() as stack:
            stdin, stdout, stderr = (stack.enter_context(_in_memory(name)) for name in ("stdin", "stdout", "stderr"))
            stdin.write(text)
            stdin.flush()
            stdin.seek(0)
            request = json.dumps({"arguments": list(arguments), "seconds": seconds}).encode()
            socket.send_fds(self._channel, [request], [stream.fileno() for stream in (stdin, stdout, stderr)])
            if not (answer := self._channel.recv(LONGEST_REQUEST)):
                raise ConnectionResetError("the fork server has ended")
            code = int(answer)
            if code == -signal.SIGALRM:
                raise subprocess.TimeoutExpired(list(arguments), seconds)
            stdout.seek(0)
            stderr.seek(0)
            return subprocess.CompletedProcess(list(arguments), code, stdout.read(), stderr.read())

    def close(self) -> None:
        """End the server, which may still be importing."""
        self._channel.close()
        self._process.terminate()
        self._process.wait()


def _in_memory(name: str) -> IO[str]:
    return os.fdopen(os.memfd_create(name), "w+", encoding="utf-8", errors="replace")


def forked(number: int) -> list[str]:
    """Serve on socket ``number`` until nobody asks any more; comes back in each fork alone, with its arguments.

    Raises:
        SystemExit: in the server, at the end.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for whoever asks, and for the forks
    with socket.socket(fileno=number) as channel:
        while True:
            message, streams, *_ = socket.recv_fds(channel, LONGEST_REQUEST, 3)
            if not message:
                sys.exit()
            request = json.loads(message)
            with warnings.catch_warnings(action="ignore", category=DeprecationWarning):
                child = os.fork()  # the threads that Python warns of are OpenBLAS's, which ends and starts its own
            if child == 0:
                signal.signal(signal.SIGINT, signal.default_int_handler)
                signal.alarm(request["seconds"])
                for place, stream in enumerate(streams):
                    os.dup2(stream, place)
                    os.close(stream)
                return [str(argument) for argument in request["arguments"]]
            for stream in streams:
                os.close(stream)
            _, status = os.waitpid(child, 0)
            channel.send(str(os.waitstatus_to_exitcode(status)).encode())
