"""A signal that ends the process does so whenever it comes."""

import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = """
import os, signal, sys, time, weakref
from emoray import termination

class Thing: pass

def callback(reference):
    os.kill(os.getpid(), getattr(signal, sys.argv[1]))
    time.sleep(0.1)

with termination.handled() as ended:
    try:
        thing = Thing()
        reference = weakref.ref(thing, callback)
        del thing
        print("dropped", flush=True)
        time.sleep(20)
        print("lost")
    except KeyboardInterrupt:
        print("ended", ended.received)
"""


@pytest.mark.parametrize(("name", "received"), [("SIGINT", False), ("SIGTERM", True)])
def test_what_python_drops_in_a_callback_comes_again(name: str, received: bool) -> None:
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, name], capture_output=True, text=True, cwd=Path(__file__).parents[1], check=True
    )
    assert done.stdout.split("\n")[:-1] == ["dropped", f"ended {received}"], done.stdout + done.stderr
    assert done.stderr == ""
