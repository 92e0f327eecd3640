"""SIGTERM, by which schedulers, containers and service managers end a process, does what Ctrl-C does."""

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


class Termination:
    """The handler of SIGTERM. `received` tells whether one came."""

    def __init__(self) -> None:
        self.received = False

    def __call__(self, number: int, frame: FrameType | None) -> None:
        self.received = True
        on_interrupt = signal.getsignal(signal.SIGINT)  # Ray Tune has its own while it searches
        if callable(on_interrupt):
            on_interrupt(signal.SIGINT, frame)
        else:  # ignored, as it is of a command that a script has put into the background
            raise KeyboardInterrupt


@contextmanager
def handled() -> Iterator[Termination]:
    """While this is open, SIGTERM is Ctrl-C to this process."""
    termination = Termination()
    if threading.current_thread() is not threading.main_thread():  # no other may have handlers
        yield termination
        return
    before = signal.signal(signal.SIGTERM, termination)
    try:
        yield termination
    finally:
        signal.signal(signal.SIGTERM, before)


@contextmanager
def apart_from_ray() -> Iterator[None]:
    """While Ray starts: it sets no handlers of its own, which would end this process at once and with noise.

    Nor are its processes in this one's group, to which `timeout` and others send their signal; they end with this one.
    There are no public switches for either: where Ray has renamed these functions, SIGTERM is less calm.
    """
    from ray._private import utils

    before = signal.getsignal(signal.SIGTERM)
    if not isinstance(before, Termination):
        yield
        return
    set_handler, in_each_child = utils.set_sigterm_handler, utils.set_kill_on_parent_death_linux

    def apart() -> None:
        os.setpgrp()
        in_each_child()

    utils.set_sigterm_handler, utils.set_kill_on_parent_death_linux = lambda handler: None, apart
    try:
        yield
    finally:
        utils.set_sigterm_handler, utils.set_kill_on_parent_death_linux = set_handler, in_each_child
        signal.signal(signal.SIGTERM, before)
