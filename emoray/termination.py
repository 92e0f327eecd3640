"""SIGTERM, by which schedulers, containers and service managers end a process, does what Ctrl-C does; none is lost."""

import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

AGAIN_SECONDS = 0.05
"""After so long a signal is sent again whose KeyboardInterrupt Python has dropped."""


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
    before, hook = signal.signal(signal.SIGTERM, termination), sys.unraisablehook

    def dropped(told: "sys.UnraisableHookArgs") -> None:
        """Python drops what is raised while it calls a finalizer or a weak reference's callback."""
        if not isinstance(told.exc_value, KeyboardInterrupt):
            hook(told)
            return
        number = signal.SIGTERM if termination.received else signal.SIGINT
        again = threading.Timer(AGAIN_SECONDS, signal.pthread_kill, (threading.main_thread().ident, number))
        again.daemon = True
        again.start()

    sys.unraisablehook = dropped
    try:
        yield termination
    finally:
        sys.unraisablehook = hook
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
