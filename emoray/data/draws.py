"""Random numbers that are a pure function of where they are used: seed, epoch, stream, row.

The rule to know: nothing here has a state. A worker that sees only rows 17 and 4,000 of epoch 9 draws for them what
every other worker would draw: batches can be cut, spread over machines, retried and resumed without changing a pixel.

The generator is counter-based (Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3"); its bijection is the
finaliser of SplitMix64 (Steele et al. 2014, constants of Stafford's variant 13).
"""

import zlib

import numpy as np

RUN = 64
"""Neighbours that a windowed permutation keeps in one window: read together, they cost little more than one."""
_MASK = (1 << 64) - 1
_GAMMA = 0x9E3779B97F4A7C15
"""SplitMix64's step, 2^64 over the golden ratio: odd, so that multiples of it visit all 64-bit numbers."""
_FIRST, _SECOND = 0xBF58476D1CE4E5B9, 0x94D049BB133111EB


def uniform(seed: int, epoch: int, stream: str | int, rows: np.ndarray, count: int) -> np.ndarray:
    """`count` draws for each row: float32 (rows, count), uniform in [0, 1), in steps of 2^-24.

    `rows` are integer ids (n,), in any order and number. Streams are independent of each other: give each use a name of
    its own. Draw k of a row does not depend on `count`.
    """
    bits = _bits(seed, epoch, stream, rows, count)
    # 24 bits are what a float32 holds exactly; more would round up to 1.0 now and then.
    return (bits >> np.uint64(40)).astype(np.float32) * np.float32(2.0**-24)


def permutation(seed: int, epoch: int, n: int) -> np.ndarray:
    """The order of an epoch: int64 (n,), a permutation of 0 .. n - 1."""
    bits = _bits(seed, epoch, "permutation", np.arange(n), 1)[:, 0]
    return np.argsort(bits, kind="stable")


def windowed_permutation(seed: int, epoch: int, n: int, window: int) -> np.ndarray:
    """A permutation, int64 (n,), of which every stretch of `window` comes from few places of what it orders.

    Runs of `RUN` neighbours are shuffled among each other, and then their images within each window. Where one window
    holds everything it is `permutation`.
    """
    if n <= window:
        return permutation(seed, epoch, n)
    starts = permutation(seed, epoch, -(-n // RUN)) * RUN
    places = (starts[:, None] + np.arange(RUN)).ravel()
    return places[places < n][shuffled_windows(seed, epoch, n, window)]


def shuffled_windows(seed: int, epoch: int, n: int, window: int) -> np.ndarray:
    """The order, int64 (n,), that shuffles each stretch of `window` in itself."""
    bits = _bits(seed, epoch, "window", np.arange(n), 1)[:, 0]
    return np.lexsort((bits, np.arange(n) // window))


def _bits(seed: int, epoch: int, stream: str | int, rows: np.ndarray, count: int) -> np.ndarray:
    """uint64 (rows, count): a chain of finalisers over the key, then the row, then the number of the draw."""
    stream = zlib.crc32(stream.encode()) if isinstance(stream, str) else stream
    key = 0
    for part in (seed, epoch, stream):
        key = _mixed_int((key + _GAMMA) ^ _mixed_int(part))
    steps = (np.arange(1, count + 1, dtype=np.uint64)) * np.uint64(_GAMMA)
    starts = _mixed(np.asarray(rows).astype(np.uint64) * np.uint64(_GAMMA) + np.uint64(key))
    return _mixed(starts[:, None] + steps)


def _mixed(bits: np.ndarray) -> np.ndarray:
    """The finaliser on uint64 numbers, which it overwrites: every bit that goes in reaches every bit that comes out."""
    bits ^= bits >> np.uint64(30)
    bits *= np.uint64(_FIRST)
    bits ^= bits >> np.uint64(27)
    bits *= np.uint64(_SECOND)
    bits ^= bits >> np.uint64(31)
    return bits


def _mixed_int(number: int) -> int:
    """The same on a Python integer, taken modulo 2^64; negative ones are welcome."""
    bits = number & _MASK
    bits = (bits ^ (bits >> 30)) * _FIRST & _MASK
    bits = (bits ^ (bits >> 27)) * _SECOND & _MASK
    return bits ^ (bits >> 31)
