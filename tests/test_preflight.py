"""What `--dry-run` refuses: all of it at once, in a sentence each, before Ray is started."""

import copy
import functools
import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from PIL import Image

from emoray import cli, cluster, config, plan, preflight
from emoray.data import sources, store
from emoray.data.splits import SPLITS
from emoray.run_folder import RunFolder, write_json
from emoray.s3 import S3Path

LABELS = ["glad"] * 6 + ["sad"] * 6 + ["cross"] * 6
PIXELS = " ".join(str(pixel % 256) for pixel in range(2304))


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def faces(form: str) -> str:
    """The path of 18 images of three classes, in one of the forms that are read."""
    if form == "folders":
        for number, label in enumerate(LABELS):
            Path("faces", label).mkdir(parents=True, exist_ok=True)
            Image.fromarray(np.full((48, 48), number, np.uint8)).save(f"faces/{label}/{number}.png")
        return "faces"
    if form == "parquet":
        pq.write_table(pa.table({"image": [b"none"] * len(LABELS), "label": LABELS}), "faces.parquet")
        return "faces.parquet"
    Path("faces.csv").write_text("label,pixels\n" + "".join(f"{label},{PIXELS}\n" for label in LABELS))
    return "faces.csv"


def planned(text: str, capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, list[str]]:
    """The exit status of a dry run and the lines that it says."""
    Path("mine.yaml").write_text(text)
    status = cli.main(["sweep", "mine.yaml", "--dry-run", *arguments])
    told = capsys.readouterr()
    return status, [line.strip() for line in (told.err if status else told.out).splitlines()]


def test_mistakes_of_all_kinds_are_told_at_once(capsys: pytest.CaptureFixture[str]) -> None:
    Path("taken").touch()
    status, found = planned(
        "storage: taken\n"
        "data: {path: nowhere, image_sise: 48}\n"
        "models:\n"
        "  - {name: lenet, cpus_per_worker: 900}\n"
        "  - {name: mobilenet_v2, weights: nowhere.h5}\n"
        "  - {name: simple_cnn, dropout: 2}\n",
        capsys,
    )
    assert status == 2
    assert found[0] == "error: mine.yaml has 6 problems:"
    for expected in (
        "line 1: storage: taken/ cannot be written: ",
        "line 2: data.path: there is nothing at nowhere",
        "line 2: data.image_sise: there is no key 'image_sise': did you mean 'image_size'?",
        "line 4: models[0]: lenet: a trial asks for 900 CPUs and there ",
        "line 5: models[1]: mobilenet_v2: mobilenet_v2.weights: there is no file nowhere.h5",
        "line 6: models[2].dropout: 2 is not allowed: it must be below 1",
    ):
        assert any(line.startswith(expected) for line in found), (expected, found)


@pytest.mark.parametrize("form", ["folders", "parquet", "csv"])
@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ("classes: [glad, saad, cross]", "data.classes[1]: no image has the label 'saad': did you mean 'sad'?"),
        ("classes: [glad, sad]", "data.classes: 6 of 18 images (33.3%) cannot be used, data.max_bad_fraction allows"),
        ("limit: 2", "data.limit: 2 is too few for 3 classes"),
        ("limit: 1, classes: [glad, sad], max_bad_fraction: 0.5", "data.limit: 1 is too few for 2 classes"),
        ("split: {test: official}", "data.split.test: it is official, but the source marks no test images"),
        ("limit: 3, classes: [sad, cross, glad]", ""),
        ("classes: [glad, sad], max_bad_fraction: 0.5", ""),
    ],
)
def test_what_the_labels_do_not_give(
    capsys: pytest.CaptureFixture[str], form: str, settings: str, expected: str
) -> None:
    status, found = planned(f"data: {{path: {faces(form)}, {settings}}}\nmodels: [lenet]\n", capsys)
    if expected:
        assert status == 2
        assert [line for line in found if line.startswith(f"line 1: {expected}")], found
        assert len(found) == 2, found
    else:
        assert status == 0, found


def test_resources_that_are_refused_are_not_reckoned_with(capsys: pytest.CaptureFixture[str]) -> None:
    text = "models: [lenet]\ndata: {mode: stream}\ntrain: {cpus_per_worker: 9999, data_cpus: 0}\n"
    status, found = planned(text, capsys)
    assert status == 2
    assert len(found) == 2, found
    assert found[1].startswith("line 3: train.data_cpus: 0 is not allowed")


def test_too_few_faces_are_refused_before_ray_starts(capsys: pytest.CaptureFixture[str]) -> None:
    status, found = planned("data: {faces: 200}\nmodels: [lenet]\n", capsys)
    assert status == 2
    assert found[1] == (
        "line 1: data.faces: 200 are too few: 2 of them are of class 'disgust', which needs at least 4, one for each "
        "of train, test, validation, selection; raise data.faces"
    )
    assert planned("data: {faces: 200, split: {selection: 0.2, test: 0}}\nmodels: [lenet]\n", capsys)[0] == 2
    assert planned("data: {faces: 600}\nmodels: [lenet]\n", capsys)[0] == 0


@pytest.mark.parametrize(("names", "status"), [("[glad, sad]", 0), ("[glad, sad, cross]", 2)])
def test_names_of_numbers(capsys: pytest.CaptureFixture[str], names: str, status: int) -> None:
    """One label in many may be damaged."""
    lines = [f"{label},{PIXELS}\n" for label in ["0", "1"] * 20 + ["?"]]
    Path("faces.csv").write_text("label,pixels\n" + "".join(lines))
    told = planned(f"data: {{path: faces.csv, classes: {names}}}\nmodels: [lenet]\n", capsys)
    assert told[0] == status, told
    assert status == 0 or "data.classes: it names 'cross', but no usable image has that label" in told[1][1]


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ("limit: 6", "data.limit: 6 is too few for 7 classes"),
        ("classes: [happy, sad, glum]", "data.classes[2]: no image has the label 'glum'"),
        ("classes: [happy, sad]", "cannot be used, data.max_bad_fraction allows 5.0%: label 'neutral' is not in"),
        ("split: {validation: official}", "data.split.validation: it is official"),
        ("classes: [angry, fear, happy, sad, surprise, neutral], limit: 6", ""),  # hardly any is disgusted
    ],
)
def test_what_the_embedded_faces_do_not_give(capsys: pytest.CaptureFixture[str], settings: str, expected: str) -> None:
    status, found = planned(f"data: {{{settings}}}\nmodels: [lenet]\n", capsys)
    assert status == (2 if expected else 0), found
    assert any(expected in line for line in found), found


@pytest.mark.parametrize(
    ("data", "metric", "told"),
    [
        ("{path: FACES}", "recall_sad", ""),
        ("{path: FACES}", "recall_saad", "there is no class 'saad': did you mean 'sad'?"),
        ("{}", "recall_hapy", "there is no class 'hapy': did you mean 'happy'?"),
    ],
)
def test_the_recall_of_a_class_that_is_not_there(
    capsys: pytest.CaptureFixture[str], data: str, metric: str, told: str
) -> None:
    text = f"data: {data.replace('FACES', faces('folders'))}\nmodels: [lenet]\nsearch: {{metric: {metric}}}\n"
    status, found = planned(text, capsys)
    assert status == (2 if told else 0), found
    assert any(told in line for line in found), found


def test_a_loss_that_names_no_class_is_told_where_it_stands(capsys: pytest.CaptureFixture[str]) -> None:
    loss = "{name: cost_sensitive, costs: {glum: {happy: 1}}}"
    status, found = planned(f"models: [lenet, simple_cnn]\ntrain:\n  loss: {loss}\n", capsys)
    assert (status, len(found)) == (2, 2), found
    assert found[1].startswith("line 3: train.loss.costs: there is no class 'glum': allowed: angry")


@pytest.mark.parametrize("named", ["taken", "taken/runs"])
def test_a_storage_that_is_no_folder_is_refused_and_nothing_is_made(
    here: Path, capsys: pytest.CaptureFixture[str], named: str
) -> None:
    Path("taken").write_text("mine")
    status, found = planned("models: [lenet]", capsys, "--storage", named)
    assert status == 2
    assert found[1] == f"storage: {named}/ cannot be written: {here / 'taken'} is not a folder"
    assert planned("models: [lenet]", capsys, "--storage", "a/b/c")[0] == 0
    assert sorted(os.listdir()) == ["mine.yaml", "taken"]


def test_a_module_that_cannot_be_imported_is_told_and_none_is_run(capsys: pytest.CaptureFixture[str]) -> None:
    Path("own.py").write_text(
        "import os.path, nothere.deep\nfrom elsewhere import x\nfrom helping import y\n1 / 0\n"
        "def wavy(epoch, epochs):\n    'Mine.'\n    return 1 / 0\n"
    )
    Path("helping.py").write_text("y = 1")
    text = "components: [own]\nmodels: [lenet]\ntrain: {schedule: wavy, epochs: 20}\nsearch: {scheduler: asha}\n"
    status, found = planned(text, capsys)
    assert status == 2
    assert found[1:] == [
        f"line 1: components[0]: own imports '{name}', which is neither installed nor beside the sweep file"
        for name in ("nothere", "elsewhere")
    ]
    for name in ("nothere", "elsewhere"):
        Path(f"{name}.py").write_text("x = 1")
    status, found = planned(text, capsys)
    assert status == 0, found


def test_votes_that_a_source_does_not_have(capsys: pytest.CaptureFixture[str]) -> None:
    status, found = planned(f"data: {{path: {faces('parquet')}, labels: votes}}\nmodels: [lenet]\n", capsys)
    assert (status, len(found)) == (2, 2)
    assert found[1].startswith("line 1: data.labels: it is votes, but the source has no column of votes")


@pytest.mark.parametrize(
    ("address", "told"), [("http://host/x.csv", "is no place that is read; allowed: a path"), ("gs://b/x", "gs://b/x")]
)
def test_an_address_that_leads_nowhere_is_told_soon(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, address: str, told: str
) -> None:
    """Google's client would try for a quarter of an hour."""
    monkeypatch.setattr(sources, "RETRY_SECONDS", 1)
    status, found = planned(f"data: {{path: '{address}'}}\nmodels: [lenet]\n", capsys)
    assert (status, len(found)) == (2, 2)
    assert told in found[1]
    assert len(found[1]) < 300


def test_a_file_that_is_too_large_to_look_into_is_said_to_be(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("emoray.data.kaggle._most_marked", lambda filesystem: 1000)
    status, found = planned(f"data: {{path: {faces('csv')}, limit: 2}}\nmodels: [lenet]\n", capsys)
    assert status == 0
    assert "not told   faces.csv is too large to be read for its labels alone" in "\n".join(found)


def test_prepared_data_are_not_looked_into_again(capsys: pytest.CaptureFixture[str]) -> None:
    """And tell more: what a split shows, and how many images were unusable."""
    text = f"data: {{path: {faces('csv')}, max_bad_fraction: 0.2}}\nmodels: [lenet]\nsearch: {{metric: recall_sad}}\n"
    assert planned(text, capsys)[0] == 0
    sweep = config.load("mine.yaml")
    folder = Path("runs/.cache") / store.fingerprint(sources.find(sweep.data, 0), sweep.data, 0)
    folder.mkdir(parents=True)
    shown = {name: {"images": 2, "classes": {"glad": 2, "sad": int(name == "train")}} for name in SPLITS}
    manifest = {"classes": ["glad", "sad"], "splits": shown, "quarantined": {"damaged": 3}, "images": 18}
    write_json(folder / "manifest.json", manifest)
    (folder / "quarantine.csv").write_text("file,row,reason\na.png,,damaged\n")
    status, found = planned(text, capsys)
    assert status == 2
    assert "recall_sad cannot be measured, since no image of that class is in the validation split" in found[1]
    status, found = planned(text.replace("0.2", "0.1").replace("sad", "glad"), capsys)
    assert status == 2
    assert "line 1: data.max_bad_fraction: 1 of 18 images" in found[1]


def test_a_dry_run_of_a_resume_compares_the_data(capsys: pytest.CaptureFixture[str]) -> None:
    text = f"data: {{path: {faces('csv')}}}\nmodels: [lenet]\n"
    Path("mine.yaml").write_text(text)
    sweep = config.load("mine.yaml")
    run = RunFolder(Path("runs/mine"))
    run.manifest.parent.mkdir(parents=True)
    run.sweep.write_text(config.dump(sweep))
    status, found = planned(text, capsys, "--resume")
    assert status == 0, found
    assert found[-1] == "resume     runs/mine/: 0 ended, 0 go on, 1 new: at most 20 epochs more; no data read yet"
    then = store.fingerprint(sources.find(sweep.data, 0), sweep.data, 0)
    write_json(run.manifest, {"image_shape": [48, 48, 1], "classes": ["a"], "fingerprint": then})
    assert planned(text, capsys, "--resume")[1][-1].endswith("; the data unchanged")
    with Path("faces.csv").open("a") as file:
        file.write(f"glad,{PIXELS}\n")
    status, found = planned(text, capsys, "--resume")
    assert status == 2
    assert found[0].startswith(
        f"error: runs/mine/data/manifest.json: the run was trained on other images or splits ({then}"
    )


def test_what_lies_in_a_bucket_is_looked_at_too(capsys: pytest.CaptureFixture[str], s3_bucket: S3Path) -> None:
    (s3_bucket / "faces.csv").write_bytes(Path(faces("csv")).read_bytes())
    text = f"storage: s3://no-such-bucket/runs\ndata: {{path: '{s3_bucket}/faces.csv', classes: [glad, saad, cross]}}\n"
    status, found = planned(f"{text}models: [lenet]\n", capsys)
    assert status == 2
    assert [line.partition(": ")[0] for line in found[1:]] == ["line 1", "line 2"], found
    assert found[1].startswith("line 1: storage: s3://no-such-bucket/runs/ cannot be written: ")
    assert "did you mean 'sad'?" in found[2]
    text = f"storage: {s3_bucket}/runs\ndata: {{path: '{s3_bucket}/faces.csv', limit: 3}}\nmodels: [lenet]\n"
    assert planned(text, capsys)[0] == 0
    assert [one.path.name for one in s3_bucket.below()] == ["faces.csv"], "a plan writes nothing"


def places(tree: object, parents: tuple[object, ...] = ()) -> Iterator[tuple[object, ...]]:
    inside = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ()
    for key, value in inside:
        yield (*parents, key)
        yield from places(value, (*parents, key))


ALL = """
data: {faces: 300, classes: null, limit: null, split: {validation: 0.1, test: auto}}
models:
  - {name: simple_cnn, study: b, width: {choice: [16, 32]}, dropout: {uniform: [0.1, 0.5]}, trials: 3}
  - {name: mobilenet_v2, weights: null, image_size: 96, alpha: 1.0}
train:
  batch_size: {choice: [16, 32]}
  optimizer: {choice: [{name: sgd, learning_rate: {loguniform: [0.01, 0.2]}}, adam]}
  schedule: {name: cosine, warmup_epochs: 1}
  loss: {name: cost_sensitive, costs: {sad: {happy: 2.0}}, priority: {sad: 2.0}}
  augment: [{name: erase, min_area: 0.02, max_area: 0.3}]
  workers: [1, 2]
search:
  {scheduler: {name: asha, grace_epochs: 1}, first: [{study: b, width: 16}], storage_limit: 2 GB, metric: recall_sad}
"""


@pytest.mark.parametrize("value", [None, ["x"], {"choice": [None, 1, {"name": "adam"}]}, {"normal": [0, 1]}])
def test_no_value_anywhere_ends_the_check_otherwise_than_in_sentences(value: object) -> None:
    whole, refused = yaml.safe_load(ALL), 0
    for parents in list(places(whole)):
        changed = copy.deepcopy(whole)
        holder = functools.reduce(lambda tree, key: tree[key], parents[:-1], changed)
        holder[parents[-1]] = value
        Path("mine.yaml").write_text(yaml.safe_dump(changed, sort_keys=False))
        sweep, problems = config.read("mine.yaml")
        found = preflight.check(sweep, problems, cluster.local_resources())
        assert all("\n" not in line for line in problems.found)
        refused += bool(problems.found)
        if not problems.found:
            plan.describe(sweep, cluster.local_resources(), found.source)
            Path("again.yaml").write_text(config.dump(sweep))
            assert config.load("again.yaml") == sweep
    assert refused > 20
