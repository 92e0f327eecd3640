"""Text that has to fit: names cut in the middle, sentences wrapped at spaces, rows in columns, nouns by their number.

The one rule: a line that begins with `CODE` is there to be copied, a command or a path, and is never broken.
"""

import os
import textwrap
from collections.abc import Collection, Sequence
from typing import TextIO

CODE = "    "
USUAL_WIDTH = 80
_NUMBER = len("-0004-soup")
"""Of a name's end, what is always kept."""
_FEWEST = _NUMBER + 2
"""Columns that a name keeps however narrow the terminal is."""


def width_of(stream: TextIO) -> int | None:
    """The columns of the terminal that a stream writes to; None for a file or a pipe: lines of any length."""
    try:
        if not stream.isatty():
            return None
        return int(os.environ.get("COLUMNS") or os.get_terminal_size(stream.fileno()).columns) or USUAL_WIDTH
    except (OSError, ValueError):
        return USUAL_WIDTH


def wrapped(text: str, width: int | None) -> str:
    """Text whose lines hold at most `width` columns, broken at spaces only; what goes on is indented like its line."""
    if width is None:
        return text
    return "\n".join(_wrapped(line, width) for line in text.split("\n"))


def shortened(name: str, width: int) -> str:
    """A name of at most `width` characters. Its middle is left out, since trials have their numbers at the end."""
    if len(name) <= width:
        return name
    end = max((width - 1) // 2, min(_NUMBER, width - 2))
    return f"{name[: width - 1 - end]}…{name[len(name) - end :]}"


def counted(number: float, what: str) -> str:
    """`1 trial`, `1,200 trials`."""
    return f"{number:,.0f} {what}{'s' if number != 1 else ''}"


def in_columns(
    rows: Sequence[Sequence[str]], width: int | None = None, *, names: int = 0, right: Collection[int] = ()
) -> str:
    """Rows as lines, the columns `right` aligned to the right. Column `names` is shortened to hold `width`."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    if width is not None:
        over = sum(widths) + 2 * (len(widths) - 1) - width
        widths[names] = min(widths[names], max(_FEWEST, widths[names] - max(0, over)))
    return "\n".join(_line(row, widths, names, right) for row in rows)


def _line(row: Sequence[str], widths: Sequence[int], names: int, right: Collection[int]) -> str:
    cells = [shortened(cell, widths[i]) if i == names else cell for i, cell in enumerate(row)]
    aligned = (f"{cell:{'>' if i in right else '<'}{widths[i]}}" for i, cell in enumerate(cells))
    return "  ".join(aligned).rstrip()


def _wrapped(line: str, width: int) -> str:
    if len(line) <= width or line.startswith(CODE):
        return line
    inset = line[: len(line) - len(line.lstrip())]
    return textwrap.fill(
        line, width, subsequent_indent=inset, break_long_words=False, break_on_hyphens=False, drop_whitespace=True
    )
