"""One call in a fresh process of its own, whose death is told apart from its failure."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any


# What a bug in a codec, or an image that takes too long, ends a process with. Every other signal comes from outside:
# from the kernel when memory is short or a disk fails, from a person.
_NAMES = ("SIGSEGV", "SIGABRT", "SIGILL", "SIGFPE", "SIGTRAP", "SIGSYS", "SIGPROF")
_CRASHES = {getattr(signal, name) for name in _NAMES if hasattr(signal, name)}  # Windows has not all of them
_is_worker = False


class ProcessDied(Exception):
    """The process ended in the midst of its call.

    Args:
        code: Its exit status, or the negative number of the signal that ended it.
        started: Whether it had come to the call.
    """

    def __init__(self, code: int | None, started: bool):
        self.code, self.started = code, started
        super().__init__(code, started)

    @property
    def crashed(self) -> bool:
        """Whether the call ended the process, and nobody from outside."""
        return self.started and self.code is not None and (self.code >= 0 or -self.code in _CRASHES)

    @property
    def killed(self) -> bool:
        """Whether a signal ended it."""
        return self.code is not None and self.code < 0

    def __str__(self) -> str:
        if self.code is not None and self.code < 0:
            try:
                return f"ended by {signal.Signals(-self.code).name}"
            except ValueError:
                return f"ended by signal {-self.code}"
        return f"ended with status {self.code}"


def call_in_a_process(function: Callable, *arguments) -> Any:
    """What `function(*arguments)` gives in a process of its own; what it raises is raised here.

    The process is a fresh interpreter: it shares no lock and no device with this one, and ends with it.

    Args:
        function: Importable by name.
        arguments: Picklable, as the result must be.

    Raises:
        ProcessDied: The process ended before the call did.
        OSError: The process cannot be started.
    """
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe(duplex=False)
    with ours:
        process = context.Process(target=_call, args=(theirs, function, arguments), daemon=True)
        with theirs:
            process.start()
        started = False
        try:
            started = ours.recv()
            result, error = ours.recv()
        except (EOFError, ConnectionError):
            process.join()
            raise ProcessDied(process.exitcode, started) from None
    process.join()
    if error is not None:
        raise error
    return result


def limit_time(seconds: float) -> None:
    """Let a worker process end by SIGPROF if it computes longer than this from now on; 0 lifts the limit.

    Only computing counts, so a busy machine ends nothing. In other processes, and where the system has no such timer,
    nothing happens.
    """
    if _is_worker and hasattr(signal, "setitimer"):
        signal.setitimer(signal.ITIMER_PROF, seconds)


def end_with_parent() -> None:
    """Make this process a worker: it ends as soon as the one that started it does, however that ends."""
    global _is_worker
    _is_worker = True
    threading.Thread(target=_wait_for_the_parent, daemon=True).start()


def _wait_for_the_parent() -> None:
    # A killed parent cannot stop its workers, and the queue that they wait on never closes: they hold both its ends.
    parent = multiprocessing.parent_process()
    assert parent is not None  # only workers come here
    parent.join()
    os._exit(1)


def _call(connection: Connection, function: Callable, arguments: tuple) -> None:
    end_with_parent()
    connection.send(True)
    try:
        result, error = function(*arguments), None
    except Exception as failure:
        result, error = None, failure
    try:
        connection.send((result, error))
    except Exception as failure:  # no memory to send the result, or an error that cannot be sent
        memory = isinstance(failure, MemoryError)
        connection.send((None, MemoryError() if memory else RuntimeError(f"{error!r}: {failure}")))
