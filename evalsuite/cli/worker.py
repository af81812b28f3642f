"""Runs one command line after the other in this process, for cells of a sweep that share a base model.

Started as ``python -m evalsuite.cli.worker``. A request is a line of JSON on stdin, ``{"arguments": [...], "log":
FILE}``; the answer a line on stdout, ``{"code": the exit code, "output": what the command printed}``. Everything else
that is said, by libraries written in C too, goes to the log. It ends with stdin, or once a command was interrupted.
"""

from __future__ import annotations

import io
import json
import os
import sys
from contextlib import nullcontext, redirect_stdout
from typing import IO

from evalsuite.cli.app import INTERRUPTED, main
from evalsuite.engines.gpus import visible_gpus
from evalsuite.errors import Interrupted
from evalsuite.llm.loading.reuse import keep_base_models
from evalsuite.memory import release_memory, reset_peak_memory
from evalsuite.reload import forking


def run(arguments: list[str]) -> tuple[int, str]:
    """The exit code and output of one command, as if it had a process of its own."""
    with redirect_stdout(io.StringIO()) as output:
        try:
            main(arguments)
        except SystemExit as stop:
            code = stop.code if isinstance(stop.code, int) else int(stop.code is not None)
            return code, output.getvalue()
    return 0, output.getvalue()


def serve() -> None:
    """Answer requests until there are no more."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    keep_base_models()
    with nullcontext() if visible_gpus() else forking():
        _answer_all(answers)


def _answer_all(answers: IO[str]) -> None:
    for line in sys.stdin:
        request = json.loads(line)
        log = os.open(request["log"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        for stream in (1, 2):
            os.dup2(log, stream)
        os.close(log)
        reset_peak_memory()
        code, output = run(request["arguments"])
        sys.stderr.flush()
        release_memory()
        answers.write(json.dumps({"code": code, "output": output}) + "\n")
        answers.flush()
        if code in (INTERRUPTED, Interrupted.exit_code):
            break


if __name__ == "__main__":
    serve()
