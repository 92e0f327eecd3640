"""The report of a made-up run as a reader sees it, and runs to write it from."""

import json
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path

import pytest

from tests.run_folder import build


class Page(HTMLParser):
    """The text that a reader sees, and the attributes that could fetch something."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.seen, self.addresses, self.scripts, self._raw = [], [], 0, False
        self.feed(path.read_text(encoding="utf-8"))
        self.text = " ".join(" ".join(self.seen).split())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._raw = tag in ("script", "style")
        self.scripts += tag == "script" and ("type", "application/json") not in attrs
        self.addresses += [value for name, value in attrs if name in ("src", "href", "srcset", "action") and value]

    def handle_endtag(self, tag: str) -> None:
        self._raw = False

    def handle_data(self, data: str) -> None:
        if not self._raw:
            self.seen.append(data)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A whole run that tests only read."""
    return build(tmp_path_factory.mktemp("runs") / "all_models")


@pytest.fixture
def fresh(tmp_path: Path) -> Path:
    """A small run that a test may damage."""
    return build(tmp_path / "run", studies=2, trials=9, epochs=6)


def changed(folder: Path, change: Callable[[dict], None]) -> Path:
    """The folder, with another ensemble.json."""
    path = folder / "ensemble.json"
    ensemble = json.loads(path.read_text())
    change(ensemble)
    path.write_text(json.dumps(ensemble))
    return folder
