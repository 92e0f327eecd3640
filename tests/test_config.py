"""Sweep files: what is taken, and every problem at once with its place."""

import dataclasses
import re
from pathlib import Path

import pytest
import yaml

from emoray import config, study_settings
from emoray.errors import UserError
from emoray.space import Choice, Range

SWEEPS = sorted((Path(__file__).parents[1] / "sweeps").rglob("*.yaml"))


def load(tmp_path: Path, text: str, *overrides: str) -> config.Sweep:
    file = tmp_path / "mine.yaml"
    file.write_text(text)
    return config.load(file, overrides)


def problems(tmp_path: Path, text: str, *overrides: str) -> list[str]:
    with pytest.raises(UserError) as caught:
        load(tmp_path, text, *overrides)
    return [line.strip() for line in str(caught.value).splitlines()]


@pytest.mark.parametrize("file", SWEEPS, ids=lambda file: file.name)
def test_every_shipped_sweep_is_valid(file: Path) -> None:
    assert config.load(file).studies
    opening = file.read_text().splitlines()[0]
    assert opening.startswith("#"), "a shipped sweep opens with its command, its cost and its result"


@pytest.mark.parametrize("file", SWEEPS, ids=lambda file: file.name)
def test_the_resolved_sweep_is_the_same_sweep(file: Path, tmp_path: Path) -> None:
    sweep = config.load(file)
    again = tmp_path / "again.yaml"
    again.write_text(config.dump(sweep))
    assert config.load(again) == sweep


def test_defaults_and_shorthand(tmp_path: Path) -> None:
    sweep = load(tmp_path, "models: [lenet, {name: simple_cnn, trials: 3, epochs: 2}]\ntrain: {loss: focal, epochs: 7}")
    lenet, simple = sweep.studies
    assert sweep.name == "mine"
    assert (lenet.epochs, lenet.trials, simple.epochs, simple.trials) == (7, 8, 2, 3)
    assert lenet.space["loss"] == {"name": "focal", "gamma": 2.0, "label_smoothing": 0.0}
    assert lenet.space["optimizer"]["name"] == "adam"


def test_nested_samplers_become_a_space(tmp_path: Path) -> None:
    sweep = load(
        tmp_path,
        "models: [{name: simple_cnn, width: {choice: [16, 32]}}]\n"
        "train: {optimizer: {choice: [sgd, {name: adam, learning_rate: {loguniform: [1e-4, 1e-2]}}]}}",
    )
    space = sweep.studies[0].space
    assert space["model"]["width"] == Choice((16, 32))
    assert space["optimizer"].options[1]["learning_rate"] == Range(1e-4, 1e-2, log=True)


def test_every_problem_is_told_at_once(tmp_path: Path) -> None:
    found = problems(
        tmp_path,
        "seeed: 3\n"
        "data: {image_size: 7, split: {selection: 2}}\n"
        "models:\n"
        "  - {name: resnet43}\n"
        "  - {name: simple_cnn, dropout: {uniform: [0.5, 1.5]}, widht: 3, depth: 2.5}\n"
        "train:\n"
        "  optimizer: {choice: [{name: sgd, learning_rate: -1}, {name: adma}]}\n"
        "  schedule: {uniform: [0, 1]}\n"
        "  workers: {choice: [1, 2]}\n"
        "search: {metric: f1, algorithm: {name: optuna, startup_trials: 0}}\n",
    )
    expected = [
        "line 1: seeed: there is no key 'seeed': did you mean 'seed'?",
        "line 2: data.image_size: 7 is not allowed: it must be at least 32",
        "line 2: data.split.selection: 2 is not allowed: it must be below 1",
        "line 4: models[0]: there is no model 'resnet43': did you mean 'resnet34'?",
        "line 5: models[1].dropout: 1.5 is not allowed: it must be below 1",
        "line 5: models[1].widht: there is no key 'widht': did you mean 'width'?",
        "line 5: models[1].depth: 2.5 is not allowed: it must be a whole number",
        "line 7: train.optimizer.choice[0].learning_rate: -1 is not allowed: it must be above 0",
        "line 7: train.optimizer.choice[1]: there is no optimizer 'adma': did you mean 'adam'?",
        "line 8: train.schedule: a number cannot be drawn here",
        "line 9: train.workers: nothing can be drawn here",
        "line 10: search.metric: 'f1' is not allowed",
        "line 10: search.algorithm.startup_trials: 0 is not allowed: it must be at least 1",
    ]
    for line in expected:
        assert any(told.startswith(line) for told in found), f"{line!r} is not among\n" + "\n".join(found)
    assert len(found) == len(expected) + 1, "\n".join(found)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("models: []", "a sweep needs a list of models"),
        ("models: [lenet, lenet]", "name this one with 'study: ...'"),
        ("models: [lenet]\nsearch: {algorithm: grid}\n"
         "train: {optimizer: {name: adam, learning_rate: {uniform: [0.1, 1]}}}",
         "grid cannot take the space of lenet: optimizer.learning_rate is continuous"),
        ("models: [lenet]\nname: ../../etc", "name: '../../etc' is not allowed"),
        ("models: [lenet]\ncomponents: [no_such_module]", "there is no module 'no_such_module'"),
        ("models: [lenet]\ntrain: {augment: {name: flip}}", "is not a list of components"),
        ("models: [lenet]\ntrain: {batch_size: 0}", "train.batch_size: 0 is not allowed: it must be at least 1"),
        ("models: [lenet]\ntrain: {batch_size: true}", "must be a whole number"),
        ("models: [lenet]\ntrain: {workers: [4, 1]}", "train.workers: [4, 1] is not allowed: it must be a whole"),
        ("models: [lenet]\ntrain: {workers: [4, 1]}", "or a range is [fewest, most], such as [1, 4]"),
        ("models: [lenet]\ntrain: {workers: [0, 2]}", "it must be at least 1"),
        ("models: [{name: lenet, workers: [1, 2, 3]}]", "a range is [fewest, most]"),
        ("models: [lenet]\ntrain: {workers: [1, 4], batch_size: 6}", "4 workers need even batches of at least 8"),
        ("models: [{name: lenet, study: 'a/b'}]", "study"),
        ("- 1", "holds no sweep"),
        ("models: [lenet]\ntrain: {workers: two}", "train.workers: 'two' is not allowed: it must be a whole number"),
        ("models: [lenet]\ntrain: {workers: null}", "train.workers: null is not allowed"),
        ("models: [lenet]\ntrain: {workers: {a: 1}}", 'train.workers: {"a": 1} is not allowed'),
        ("models: [lenet]\ntrain: {workers: [a, b]}", 'train.workers: ["a", "b"] is not allowed'),
        ("models: [lenet]\ntrain: {workers: []}", "train.workers: [] is not allowed"),
        ("models: [lenet]\ntrain: {workers: 2, gpus_per_worker: one}", "gpus_per_worker: 'one' is not allowed"),
        ("models: [lenet]\ntrain: []", "train: [] is not a mapping"),
        ("models: [{name: lenet, trials: many}]", "models[0].trials: 'many' is not allowed"),
        ("models: [lenet]\nsearch: {algorithm: {choice: [grid]}}", "search.algorithm: nothing can be drawn here"),
        ("models: [lenet]\nsearch: {algorithm: {name: optuna, sampler: {choice: [gp]}}}", "nothing can be drawn here"),
        ("models: [lenet]\nsearch: {scheduler: {choice: [pbt]}}", "search.scheduler: nothing can be drawn here"),
        ("models: [{name: lenet, study: 3}]\nsearch: {first: [{study: b}]}", "models[0].study: 3 is not allowed"),
        ("models: [{name: lenet, study: [a]}]", 'models[0].study: ["a"] is not allowed: it must be text'),
        ("models: [lenet]\ndata: {path: ''}", "data.path: '' is not allowed: it must name a file or a folder"),
        ("models: [{name: simple_cnn, dropout: {unifrom: [0, 0.5]}}]",
         "models[0].dropout: there is no sampler 'unifrom': did you mean 'uniform'?"),
        ("models: [lenet]\ntrain: {optimizer: {chioce: [adam, sgd]}}", "train.optimizer: there is no sampler 'chioce'"),
        ("models: [lenet]\ntrain: {augment: {chioce: [[flip], []]}}", "train.augment: there is no sampler 'chioce'"),
        ("models: [lenet]\ntrain: {optimizer: [adam]}", 'train.optimizer: ["adam"] is not allowed: an optimizer needs'),
        ("models: [{name: lenet, batch_norm: null}]", "batch_norm: null is not allowed: it must be true or false"),
        ("models: [{name: simple_cnn, units: true}]", "units: true is not allowed: it must be a whole number"),
        (f"models: [{{name: simple_cnn, units: {[*range(99)]}}}]", "20, 21... is not allowed: it must be a whole"),
        ("models: [lenet]\ntrain:\n  loss:\n    name: cost_sensitive\n    costs:\n      sad: {happy: 1}\n      fear: 3",
         "line 7: train.loss.costs.fear: 3 is not allowed: it must be a mapping"),
        ("models: [lenet]\ntrain: {augment: [{name: shear, degrees: 120}]}", "degrees: 120 is not allowed: it must"),
        ("models: [lenet]\ntrain: {augment: [{name: erase, min_area: 0.4}]}", "min_area 0.4 is above max_area 0.33"),
        ("models: [lenet]\n"
         "train: {augment: {choice: [[], [{name: erase, min_area: 0.2, max_area: {uniform: [0.1, 0.3]}}]]}}",
         "line 2: train.augment: erase: min_area 0.2 is above max_area 0.1"),
        ("models: [lenet]\ndata: {classes: [happy]}", 'data.classes: ["happy"] is not allowed: it must have 2'),
        ("models: [lenet]\ndata: {classes: [sad, happy, sad]}", "is not allowed: 'sad' stands in it twice"),
        ("models: [lenet]\ndata: {classes: [' sad', happy]}", "data.classes[0]: ' sad' is not allowed: a class has a"),
        ("models: [lenet]\ndata: {split: {validation: 0.5, test: 0.4}}",
         "line 2: data.split: validation 0.5 and selection 0.1 and test 0.4 leave too little to train on"),
        ("models: [lenet]\ndata: {faces: 1000000000}", "it must be at most 10000000"),
        ("models: [lenet]\nstorage: ''", "storage: '' is not allowed: it must name a folder, or a place on S3"),
        ("models: [lenet]\ncomponents: [mine, mine]", "is not allowed: 'mine' stands in it twice"),
        ("models: [lenet]\nsearch: {metric: acuracy}", "'acuracy' is not allowed: did you mean 'accuracy'?"),
        ("models: [lenet]\nsearch: {storage_limit: 20}", "20 is not allowed: a number alone is bytes; write a size as"),
        ("models: [lenet]\nsearch: {scheduler: {name: asha, reduction_factor: 1}}", "it must be at least 2"),
        ("models: [lenet]\nsearch: {scheduler: {name: pbt, quantile: 0.6}}", "it must be at most 0.5"),
        ("models: [lenet]\ntrain: {batch_size: {choice: [32, 64, 32]}}", "batch_size.choice[2]: 32 stands in it twice"),
        ("models: [lenet]\ntrain: {batch_size: {choice: [32], default: 8}}",
         "a sampler stands alone: 'default' cannot stand beside 'choice'"),
        ("models: [lenet]\ntrain: {augment: {choice: [flip, rotate]}}", "a choice here is among lists, such as"),
        ("models: [lenet]\ntrain: {class_weight: {choice: [none, null]}}", '{"name": "none"} stands in it twice'),
        ("models: [lenet]\ntrain: {augment: [null]}", "augment[0]: null is not allowed: an augmentation has a name"),
        ("models: [{name: simple_cnn, dropout: {normal: [0.1, 0.1]}}]",
         "dropout: -0.2 is not allowed: it must be at least 0 (an end of {normal: [0.1, 0.1]})"),
        ('models: [lenet]\n"a\\nb": 1', "line 2: a\\nb: there is no key 'a\\nb': allowed: components"),
        ('models: ["\\u202elenet"]', "there is no model '\\u202elenet': did you mean 'lenet'?"),
        ("models:\n\t- lenet", "line 2 is not valid YAML: found character '\\t' that cannot start any token; indent"),
        ("models: [lenet]\n---\nmodels: [lenet]", "expected a single document in the stream but found another"),
    ],
)  # fmt: skip
def test_mistakes(tmp_path: Path, text: str, reason: str) -> None:
    assert any(reason in line for line in problems(tmp_path, text))


@pytest.mark.parametrize(
    "text",
    [
        "search: {first: [{study: lenet}]}",
        "models: [{name: {choice: [lenet, vgg10]}}]",
        "models: [a b]",
        "models: [simple_cnn]\ntrain: {batch_size: {uniform: [0, 1]}, workers: 2}",
        "models: [lenet, vgg10]\ntrain: {augment: [{name: erase, min_area: {uniform: [0, 1]}}]}",
        "models: [lenet, vgg10]\ntrain: {workers: 2, batch_size: 33}",
        "models: [{name: simple_cnn, width: {choice: [8, x]}}]\nsearch: {first: [{study: simple_cnn, width: 8}]}",
        "models: [lenet]\nsearch: {algorithm: {name: optuna, sampler: {choice: [tpe, x]}}}",
        "models: [lenet]\ntracking: {choice: [none, x]}",
        "components: [nowhere]\nmodels: [tiny]\ntrain: {loss: nowhere.hinge}",
    ],
)
def test_one_mistake_is_one_sentence(tmp_path: Path, text: str) -> None:
    assert len(problems(tmp_path, text)) == 2


def test_a_range_of_workers(tmp_path: Path) -> None:
    sweep = load(tmp_path, "models: [{name: lenet, workers: [1, 4]}, simple_cnn]\ntrain: {workers: 2}")
    ranged, fixed = (study.resources for study in sweep.studies)
    assert (ranged.least, ranged.workers) == (1, 4)
    assert (fixed.least, fixed.workers) == (2, 2)
    (tmp_path / "again.yaml").write_text(config.dump(sweep))
    assert config.load(tmp_path / "again.yaml") == sweep


def test_a_value_is_laid_over_the_file(tmp_path: Path) -> None:
    text = "models: [lenet, {name: simple_cnn, study: wide}]\nsearch: {trials: 4}"
    sweep = load(
        tmp_path, text, "data.faces=500", "search.trials=2", "models.wide.trials=9", "train.optimizer={name: sgd}"
    )
    assert sweep.data.faces == 500
    assert [study.trials for study in sweep.studies] == [2, 9]
    assert sweep.studies[0].space["optimizer"]["name"] == "sgd"


def test_a_name_that_an_override_lies_over_keeps_its_defaults(tmp_path: Path) -> None:
    (study,) = load(tmp_path, "models: [lenet]", "models.lenet.trials=3").studies
    assert (study.trials, study.space["model"]["name"]) == (3, "lenet")


def test_a_line_is_told_only_of_what_the_file_holds(tmp_path: Path) -> None:
    text = "models:\n  - name: lenet\n    trials: 4\n"
    (told,) = problems(tmp_path, text, "models.lenet.trials=0")[1:]
    assert told.startswith("models[0].trials: 0 is not allowed")
    (told,) = problems(tmp_path, text.replace("4", "0"))[1:]
    assert told.startswith("line 3: models[0].trials: 0")


@pytest.mark.parametrize(("file", "name"), [("_x.yaml", "x"), ("--.yaml", "sweep"), (f"{'a' * 99}.yaml", "a" * 64)])
def test_a_run_has_a_name_whatever_its_file_is_called(tmp_path: Path, file: str, name: str) -> None:
    (tmp_path / file).write_text("models: [lenet]")
    assert config.load(tmp_path / file).name == name


@pytest.mark.parametrize(
    ("override", "reason"),
    [
        ("data.paht=x", "data.paht: there is no key 'paht': did you mean 'path'?"),
        ("nothing", "KEY=VALUE"),
        ("models.resnet.trials=2", "there is no entry 'resnet'"),
        ("name.x=2", "has no keys below it"),
        ("models.lenet.name.x=2", "'name' is 'lenet', which has no keys below it"),
    ],
)
def test_a_wrong_override_is_told(tmp_path: Path, override: str, reason: str) -> None:
    assert any(reason in line for line in problems(tmp_path, "name: a\nmodels: [lenet]", override))


def test_wrong_overrides_are_told_with_all_else(tmp_path: Path) -> None:
    found = problems(tmp_path, "models: [lenet]\nseeed: 1", "models.resnet.trials=2", "name.x=2", "seed=-1")
    told = [line.partition(": ")[0] for line in found[1:]]
    assert told == ["line 2", "--set models.resnet.trials", "name", "seed"], found


def test_every_setting_is_documented() -> None:
    """In a table: of `train` in docs/sweep_files.md, of `data` in docs/data.md too."""
    docs = Path(__file__).parents[1] / "docs"
    rows = {
        page: [line for line in (docs / page).read_text().splitlines() if line.startswith("|")]
        for page in ("sweep_files.md", "data.md")
    }
    named = {page: re.findall(r"`(?:[a-z]+\.)?([a-z_]+)`", "\n".join(lines)) for page, lines in rows.items()}
    assert {*study_settings.TRAIN_KEYS} <= {*named["sweep_files.md"]}
    for section in (config.DataSettings, config.SearchSettings, config.FinalizeSettings):
        assert {field.name for field in dataclasses.fields(section)} <= {*named["sweep_files.md"]}
    first_columns = "\n".join(line.split("|")[1] for line in rows["data.md"])
    for field in dataclasses.fields(config.DataSettings):
        assert re.search(rf"`{field.name}(\.\w+)?`", first_columns), field.name


def test_a_missing_file_names_its_neighbours(tmp_path: Path) -> None:
    (tmp_path / "quickstart.yaml").write_text("")
    with pytest.raises(UserError, match=r"did you mean 'quickstart.yaml'\?"):
        config.load(tmp_path / "quickstar.yaml")


def test_own_components_are_read_without_being_run(tmp_path: Path) -> None:
    (tmp_path / "my_models.py").write_text(
        "from emoray.settings import Count\n"
        "raise SystemExit('imported')\n"
        "def tiny(image_shape, classes, *, units: Count = 8):\n    'A tiny model.'\n"
    )
    text = "components: [my_models]\nmodels: [{name: tiny, units: {choice: [4, 8]}}]"
    assert load(tmp_path, text).studies[0].space["model"]["name"] == "my_models.tiny"
    assert any("must be at least 1" in line for line in problems(tmp_path, text.replace("4", "0")))


def test_a_component_may_not_take_a_name_that_is_taken(tmp_path: Path) -> None:
    (tmp_path / "my_models.py").write_text("def lenet(image_shape, classes):\n    pass\n")
    assert any(
        "give it another name" in line for line in problems(tmp_path, "components: [my_models]\nmodels: [lenet]")
    )


def test_a_small_limit_is_written_with_its_unit(tmp_path: Path) -> None:
    sweep = load(tmp_path, "models: [lenet]\nsearch: {storage_limit: 30 B}")
    assert load(tmp_path, config.dump(sweep)).search.storage_limit == sweep.search.storage_limit == 30


def test_the_resolved_sweep_is_plain_yaml(tmp_path: Path) -> None:
    sweep = load(tmp_path, "models: [{name: simple_cnn, dropout: {normal: [0.3, 0.05]}}]")
    assert yaml.safe_load(config.dump(sweep))["models"][0]["dropout"] == {"normal": [0.3, 0.05]}


@pytest.mark.parametrize(
    ("train", "told"),
    [
        ("workers: 4, batch_size: {choice: [4, 64]}", "4 workers need even batches of at least 8 images, not 4"),
        ("workers: 2, batch_size: 1", "has 1 problem:\n  line 2: train.batch_size: 2 workers need even batches"),
        ("workers: 2, batch_size: 33", "several workers share even batches, not 33"),
        ("workers: 2, batch_size: {randint: [32, 64]}", "several workers share even batches, not 33"),
        ("workers: 2, batch_size: {lograndint: [16, 256]}", "several workers share even batches, not 17"),
        ("workers: 2, batch_size: {qrandint: [32, 64, 9]}", "several workers share even batches, not 41"),
        ("workers: 2, batch_size: {choice: [64, {randint: [32, 64]}]}", "several workers share even batches, not 33"),
        ("workers: 2, gpus_per_worker: 0.5", "0.5: a trial's workers cannot share a GPU"),
        ("batch_size: 16, accumulate_steps: 32", "a batch of 16 cannot be cut into 32 parts each"),
        ("workers: 0", "workers"),
        ("precision: float8", "'float8'"),
    ],
)
def test_settings_that_cannot_work_together(tmp_path: Path, train: str, told: str) -> None:
    file = tmp_path / "sweep.yaml"
    file.write_text(f"models: [lenet]\ntrain: {{{train}}}\n")
    with pytest.raises(UserError, match=re.escape(told)):
        config.load(file)


def test_several_workers_share_the_even_batches_of_a_range(tmp_path: Path) -> None:
    sweep = load(tmp_path, "models: [lenet]\ntrain: {workers: 2, batch_size: {qrandint: [32, 65, 8]}}")
    assert list(sweep.studies[0].space["batch_size"].values()) == [32, 40, 48, 56, 64]
