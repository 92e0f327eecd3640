"""Components by name: what the source says, without importing it."""

import inspect
import re
import subprocess
import sys
from pathlib import Path

import pytest

from emoray import catalogue, registry
from emoray.errors import UserError

ALL = [(family, name) for family in registry.FAMILIES for name in registry.members(family)]


@pytest.mark.parametrize(("family", "name"), ALL)
def test_the_source_is_read_as_python_reads_it(family: str, name: str) -> None:
    component = registry.members(family)[name]
    signature = inspect.signature(registry.function(family, name))
    keyword = [p for p in signature.parameters.values() if p.kind is p.KEYWORD_ONLY]
    assert list(component.settings) == [p.name for p in keyword]
    for parameter in keyword:
        default = registry.REQUIRED if parameter.default is parameter.empty else parameter.default
        assert component.settings[parameter.name].default == default
    assert component.summary.endswith((".", "!")), "the first line of a docstring is a sentence"


TECHNIQUES = ("models", "losses", "optimizers", "schedules", "augment", "class_weights", "stopping")


@pytest.mark.parametrize(("family", "name"), [one for one in ALL if one[0] in TECHNIQUES])
def test_a_technique_names_its_source(family: str, name: str) -> None:
    described = registry.members(family)[name].described
    assert re.search(r"\b(19|20)\d\d\b|[Ee]lementary", described), described


def test_models_have_no_setting_that_a_model_entry_uses_itself() -> None:
    from emoray.study_settings import TRAIN_KEYS

    for component in registry.members("models").values():
        assert not set(component.settings) & {*TRAIN_KEYS, "study", "trials", "name"}


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("def m(image_shape, classes, *, a): pass", "no annotation"),
        ("def m(image_shape, classes, *, a: Strange = 1): pass", "annotated `Strange`"),
        ("def m(image_shape, classes, *, a: int = len('x')): pass", "literal"),
        *((f"def m(image_shape, classes, *, a: {annotation} = 1): pass", "m.a. is annotated .*allowed: Any, Count")
          for annotation in ("'int |'", "Literal[X]", "Count[int]", "Literal", "dict[int]", "Literal[[1]]", "int | 3")),
        ("def m(", "not valid Python"),
    ],
)  # fmt: skip
def test_a_component_that_cannot_be_read_is_named(tmp_path: Path, source: str, reason: str) -> None:
    (tmp_path / "own.py").write_text(source)
    with pytest.raises(UserError, match=reason):
        registry.members("models", ["own"], tmp_path)


def test_the_catalogue_names_every_component() -> None:
    text = catalogue.text()
    for _, name in ALL:
        assert f"  {name}  " in text


def test_the_documented_components_are_those_that_exist() -> None:
    documented = Path(__file__).parents[1] / "docs" / "components.md"
    assert documented.read_text() == catalogue.markdown(), "run `make docs`"
    for words in (
        "`Lean` | a number, at least 0 and below 90 |",
        "Khaireddin & Chen 2021",
        "costs: {fear:",
        "KERAS_HOME",
    ):
        assert words in documented.read_text()


@pytest.mark.parametrize("flags", [["--help"], ["--list"], ["sweeps/quickstart.yaml", "--dry-run"]])
def test_looking_imports_neither_keras_nor_ray_libraries(flags: list[str]) -> None:
    script = (
        "import sys\nfrom emoray import cli\n"
        "try:\n    status = cli.main(['sweep', *sys.argv[1:]])\nexcept SystemExit as end:\n    status = end.code\n"
        "heavy = {'keras', 'tensorflow', 'ray.tune', 'ray.train', 'ray.data'} & set(sys.modules)\n"
        "sys.exit(f'imported {heavy}' if heavy or status else 0)"
    )
    root = Path(__file__).parents[1]
    done = subprocess.run([sys.executable, "-c", script, *flags], cwd=root, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
