"""The report without a browser: what it says, what it survives, and the arithmetic behind its charts and tables."""

import ast
import csv
import dataclasses
import html
import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from plotly.offline import get_plotlyjs

from emoray import report, storage
from emoray.errors import UserError
from emoray.report import page
from emoray.report.answer import answer
from emoray.report.run import read
from tests.page import Page, changed, folder, fresh
from tests.run_folder import build

__all__ = ["folder", "fresh"]  # the fixtures


def rewrite_trials(folder: Path, change: Callable[[dict[str, str]], dict[str, str]]) -> None:
    with (folder / "trials.csv").open(newline="") as file:
        rows = [change(row) for row in csv.DictReader(file)]
    with (folder / "trials.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0].keys())
        writer.writeheader()
        writer.writerows(rows)


def test_one_file_that_fetches_nothing(folder: Path) -> None:
    path = report.write(folder)
    assert path == folder / "report.html"
    assert not list(folder.glob("*.tmp"))
    assert not list(folder.glob(".*"))
    addresses = Page(path).addresses
    assert addresses
    assert all(address.startswith(("#", "data:")) for address in addresses)
    own = path.read_text().replace(get_plotlyjs(), "")
    assert len(own) < path.stat().st_size - 4e6, "Plotly is in the page, as its package has it"
    assert not re.search(r"url\(|@import|https?://", own)


def test_all_trials_and_members_are_named(folder: Path) -> None:
    text = Page(report.write(folder)).text
    run = read(folder)
    assert all(trial.name in text for trial in run.trials)
    assert "Use the ensemble of 4 models" in text
    for heading in ("Trials", "Training", "Classes", "Ensemble", "Settings", "Data", "Confusion", "Calibration"):
        assert heading in text
    for heading in ("Members", "Looking inside", "Feature maps", "Dead filters", "Importance", "Labels in doubt"):
        assert heading in text


def test_page_of_two_hundred_trials_can_be_sent(tmp_path: Path) -> None:
    path = report.write(build(tmp_path / "big", studies=9, trials=200, epochs=60))
    assert path.stat().st_size < 15e6


def test_folder_without_trials_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"has no trials\.csv"):
        report.write(tmp_path)


@pytest.mark.parametrize(
    ("missing", "told"),
    [
        ("ensemble.json", "No ensemble methods are recorded"),
        ("leaderboard.csv", "Trials"),
        ("sweep.yaml", "Trials"),
        ("data/manifest.json", "no data/manifest.json"),
        ("data/quarantine.csv", "undecodable"),
        ("trials/*/history.csv", "there are no curves"),
        ("trials/*/error.txt", "There is no error.txt"),
        ("trials/*/settings.json", "Settings"),
        ("report/pictures.json", "Labels in doubt"),
        ("report/*/inside.json", "No model has been looked into"),
    ],
)
def test_missing_file_leaves_its_part_out(fresh: Path, missing: str, told: str) -> None:
    for path in list(fresh.glob(missing)):
        path.unlink()
    assert told in Page(report.write(fresh)).text


ENSEMBLE_KEYS = (
    *("metric", "method", "members", "classes", "methods", "selection_images", "test", "recommended", "candidates"),
    *("left_out", "comparison", "label_issues"),
)
TEST_KEYS = ("images", "best_single", "ensemble", "gain", "confusion", "calibration", "mistakes")


@pytest.mark.parametrize("key", [*ENSEMBLE_KEYS, *(f"test.{key}" for key in TEST_KEYS)])
@pytest.mark.parametrize("gone", [True, False], ids=["absent", "null"])
def test_missing_key_leaves_its_part_out(fresh: Path, key: str, gone: bool) -> None:
    path = fresh / "ensemble.json"
    ensemble = json.loads(path.read_text())
    place = ensemble["test"] if key.startswith("test.") else ensemble
    place[key.removeprefix("test.")] = None
    if gone:
        del place[key.removeprefix("test.")]
    path.write_text(json.dumps(ensemble))
    assert "Trials" in Page(report.write(fresh)).text


@pytest.mark.parametrize("key", ["source", "image_shape", "classes", "splits", "quarantined", "duplicates", "leaks"])
def test_manifest_of_an_older_run(fresh: Path, key: str) -> None:
    path = fresh / "data" / "manifest.json"
    manifest = json.loads(path.read_text())
    del manifest[key]
    path.write_text(json.dumps(manifest))
    assert "Data" in Page(report.write(fresh)).text


def test_names_are_text_never_markup(tmp_path: Path) -> None:
    evil = "<script>alert(1)</script>"
    folder = build(tmp_path / "run", trials=9, classes=(evil, '"><img src=x onerror=alert(1)>', "&amp;"))
    rewrite_trials(folder, lambda row: row | {"study": f"study {evil}", "reason": evil})
    failed = next(folder.glob("trials/*/error.txt"))
    failed.write_text(f"ValueError: {evil}")
    source = report.write(folder).read_text()
    assert Page(folder / "report.html").scripts == 2, "Plotly's and the page's own"
    images = re.findall(r"<img [^>]*>", source)
    assert images
    assert all(image.startswith('<img src="data:image/') for image in images)
    text = Page(folder / "report.html").text
    assert f"ValueError: {evil}" in text
    assert '"><img src=x onerror=alert(1)>' in text
    assert "&amp; " in text


def test_long_names_keep_their_numbers(fresh: Path) -> None:
    long = "a_narrow_simple_cnn_with_a_drawn_dropout_and_flips_of_grey_faces"
    shutil.move(fresh / "trials" / "simple_cnn-000", fresh / "trials" / f"{long}-000")
    for file in ("trials.csv", "leaderboard.csv", "ensemble.json"):
        text = (fresh / file).read_text()
        (fresh / file).write_text(text.replace("simple_cnn-000", f"{long}-000"))
    source = report.write(fresh).read_text()
    assert re.search(rf'<th scope="row" title="{long}-000">a_narrow[a-z_]*…[a-z_]*faces-000[ <]', source)
    assert f">{long}-000<" not in source.partition('id="training"')[0].partition('id="trials"')[2]


def test_page_and_card_tell_what_a_doubt_about_a_label_is_worth(fresh: Path) -> None:
    def doubts(ensemble: dict) -> None:
        ensemble["label_issues"] |= {"images": 305, "count": 54, "share": 0.241}
        ensemble["test"]["ensemble"]["accuracy"] = {"estimate": 0.73, "low": 0.7, "high": 0.76}

    changed(fresh, doubts)
    for text in (Page(report.write(fresh)).text, report.model_card.write(fresh).read_text()):
        assert "54 of the 305 selection images (17.7%) look like another class" in text
        assert "scales this up to 24.1% of all labels" in text
        assert "Read both as upper figures" in text
        assert "which is wrong on 27.0% of the test images" in text
        assert "estimated to be wrong" not in text
        assert "Wrong labels" not in text


def test_place_of_a_prediction_that_there_is_not_says_so(fresh: Path) -> None:
    """The first class of the run has no right prediction; here another is never mistaken."""
    text = Page(report.write(fresh)).text
    assert "angry : none of its selection images was seen as such." in text
    assert "was mistaken." not in text
    for path in fresh.glob("report/*/inside.json"):
        told = json.loads(path.read_text())
        del told["classes"][1]["wrong"]
        path.write_text(json.dumps(told))
    assert "disgust : none of its selection images was mistaken." in Page(report.write(fresh)).text


def test_most_frequent_mistakes_tell_their_images(fresh: Path) -> None:
    counts = [[0] * 7 for _ in range(7)]
    for i in range(7):
        counts[i][i] = 1000
    counts[1] = [0, 5, 0, 0, 0, 0, 4]
    text = Page(report.write(changed(fresh, lambda e: e["test"].update(confusion=counts)))).text
    assert "Most often mistaken: disgust for neutral (44%, 4 of 9 images)." in text


def test_page_says_what_it_looks_into(fresh: Path) -> None:
    """Beside the best of each study on validation: the model in use, of another trial than the best of all."""
    run = read(fresh)
    second = next(one for one in run.ensemble["candidates"] if run.best and one["study"] != run.best.study)
    first = next(inside["name"] for inside in run.insides if inside["study"] != second["study"])
    text = Page(report.write(fresh)).text
    weight = next(m["weight"] for m in run.ensemble["members"] if m["trial"] == first)
    assert f"{first}, a member of the recommended ensemble with a weight of {weight:.2f}: bright is" in text
    changed(fresh, lambda ensemble: ensemble.update(members=[second], recommended="best_single"))
    path = fresh / "report" / second["study"] / "inside.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"name": second["name"]}))
    text = Page(report.write(fresh)).text
    assert f"{second['name']}, the recommended model: bright is" in text
    assert f"{first}, the best of its study on validation, not in use: bright is" in text
    assert f"{run.best.name}, is drawn bold. The recommended model is of {second['trial']}" in text


def test_model_that_could_not_be_looked_into_says_why(fresh: Path) -> None:
    path = next(fresh.glob("report/*/inside.json"))
    told = {key: json.loads(path.read_text())[key] for key in ("key", "study", "name", "model")}
    path.write_text(json.dumps(told | {"error": "the model has no maps"}))
    assert f"{told['name']} could not be looked into. the model has no maps" in Page(report.write(fresh)).text


def test_pictures_of_another_finalize_are_not_shown(fresh: Path) -> None:
    path = fresh / "report" / "pictures.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"mistakes": ["data:image/png;base64,"] * 7}))
    source = report.write(fresh).read_text()
    assert "The surest mistakes" in source
    assert 'An image of angry"' not in source.partition("The surest mistakes")[2].partition("</section>")[0]


def test_run_whose_trials_all_failed(fresh: Path) -> None:
    rewrite_trials(fresh, lambda row: row | {"status": "failed", "score": "", "reason": "out of memory"})
    (fresh / "ensemble.json").unlink()
    text = Page(report.write(fresh)).text
    assert "All 9 trials failed" in text
    assert "out of memory" in text


def test_run_that_has_only_begun(fresh: Path) -> None:
    rewrite_trials(fresh, lambda row: dict.fromkeys(row, "") | {"trial": row["trial"], "status": "running"})
    for path in [*fresh.glob("trials/*/history.csv"), fresh / "ensemble.json", fresh / "leaderboard.csv"]:
        path.unlink()
    assert "have not finished an epoch" in Page(report.write(fresh)).text


def test_studies_stand_beside_each_other_with_their_pace(fresh: Path) -> None:
    (fresh / "sweep.yaml").write_text(
        "data: {mode: stream}\n"
        "models:\n"
        "  - {study: simple_cnn, workers: [1, 2], cpus_per_worker: 0.75, gpus_per_worker: 0, data_cpus: 0.25}\n"
        "  - {study: resnet34, workers: 1, cpus_per_worker: 1, gpus_per_worker: 0.5, data_cpus: 1}\n"
    )
    for path in fresh.glob("trials/simple_cnn-*/history.csv"):
        with path.open(newline="") as file:
            rows = list(csv.DictReader(file))
        for number, row in enumerate(rows):
            row |= {"data_wait": 0.9 if number == 0 else 0.3, "workers": 1 + number % 2, "images_per_second": 1300}
        with path.open("w", newline="") as file:
            writer = csv.DictWriter(file, rows[0].keys())
            writer.writeheader()
            writer.writerows(rows)
    text = Page(report.write(fresh)).text
    assert "simple_cnn 1 to 2 0.75 0 0.25 1,300 30.0%" in text
    assert "resnet34 – 1 0.5 1 2,400 1.0%" in text
    (fresh / "sweep.yaml").write_text("data: {mode: memory}\nmodels: [{study: resnet34, data_cpus: 1}]\n")
    assert "resnet34 – – – – 2,400 1.0%" in Page(report.write(fresh)).text


def test_log_loss_is_shown_as_it_is(fresh: Path) -> None:
    (fresh / "ensemble.json").unlink()
    (fresh / "sweep.yaml").write_text("name: synthetic\nsearch: {metric: log_loss}\n")
    rewrite_trials(fresh, lambda row: row | {"score": row["log_loss"] and f"-{row['log_loss']}"})
    run = read(fresh)
    least = min(-trial.score for trial in run.trials if trial.score is not None)
    assert f": log-loss {least:.3f} on validation" in answer(run).headline
    assert run.best
    source = report.write(fresh).read_text()
    row = source.partition(f'<th scope="row">{run.best.name}</th>')[2].partition("</tr>")[0]
    assert f">{least:.3f}</td>" in row
    assert '<th scope="col" aria-sort="ascending" class="n" data-lower><button type="button">log-loss<' in source
    assert "negated" not in source.replace(get_plotlyjs(), "")


def snippet(source: str) -> str:
    """The Python on the page that loads a model."""
    blocks = re.findall(r"<pre[^>]*>(.*?)</pre>", source, re.DOTALL)
    return html.unescape(next(block for block in blocks if "import load" in block))


def test_snippet_calls_load_as_it_is(folder: Path) -> None:
    tree = ast.parse(snippet(report.write(folder).read_text()))
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call) and ast.unparse(node.func) == "load"]
    definition = ast.parse((Path(report.__file__).parents[1] / "inference.py").read_text())
    load = next(n for n in definition.body if isinstance(n, ast.FunctionDef) and n.name == "load")
    assert [ast.unparse(a) for a in calls[0].args][2:] == ["(48, 48, 1)", "7"]
    assert len(calls[0].args) == len(load.args.args)


def test_snippet_loads_what_is_recommended(fresh: Path) -> None:
    """The best on selection, a soup of another trial than the best on validation; on S3 by its address."""
    path = fresh / "ensemble.json"
    ensemble = json.loads(path.read_text())
    second = ensemble["candidates"][1]["trial"]
    files = [f"trials/{second}/checkpoint/epoch-000{epoch}.npz" for epoch in (3, 4)]
    soup = {"name": f"{second}-soup", "trial": second, "files": files, "model": "lenet", "weight": 1.0}
    ensemble |= {"recommended": "best_single", "members": [soup], "candidates": [*ensemble["candidates"], soup]}
    path.write_text(json.dumps(ensemble))
    run = read(fresh)
    assert run.best is not None
    assert run.best.name != second
    told = snippet(report.write(fresh).read_text())
    assert f"run / 'trials/{second}'" in told
    assert repr(tuple(files)) in told
    elsewhere = dataclasses.replace(run, folder=storage.at("s3://bucket/runs/mine"))
    assert "storage.at('s3://bucket/runs/mine')" in snippet(page.html(elsewhere))


@pytest.mark.parametrize("name", ["../../x", "/etc", "..", "", "a/b"])
def test_trials_of_the_table_lie_in_the_run(fresh: Path, name: str) -> None:
    rewrite_trials(fresh, lambda row: row | {"trial": name})
    with pytest.raises(UserError, match=r"trials\.csv: .* is no name of a trial"):
        report.write(fresh)


def test_a_damaged_file_of_the_run_is_named(fresh: Path) -> None:
    path = fresh / "ensemble.json"
    path.write_text(path.read_text()[:200])
    with pytest.raises(UserError, match=r"ensemble\.json is damaged or cut off"):
        report.write(fresh)
