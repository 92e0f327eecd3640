"""What the driver keeps of each trial that Tune has run: next to nothing, for there may be thousands."""

from pathlib import Path
from typing import Any

from ray.train._internal.storage import StorageContext
from ray.tune.experiment import Trial

from emoray import search
from emoray.study_settings import Resources

SETTINGS = {"optimizer": {"name": "adam", "learning_rate": 0.1}, "augment": [{"name": "flip"}] * 8, "epochs": 3}


def ended(tmp_path: Path) -> Trial:
    """Tune's object of an order that was played for three epochs."""
    config: dict[str, Any] = {"trial": "lenet-001", "settings": SETTINGS, "resources": Resources()}
    storage = StorageContext(storage_path=str(tmp_path), experiment_dir_name="tune", trial_dir_name="a")
    drawn = {f"settings/{key}": value for key, value in SETTINGS.items()}
    order = Trial("any", stub=True, config=config, evaluated_params=drawn, experiment_tag="x" * 500, storage=storage)
    order.resolve_config_placeholders({})
    for epoch in range(3):
        row = [(name, float(epoch)) for name in ("epoch", "score", "accuracy")]
        result = {"trial": "lenet-001", "row": row, "parameters": 256, "training_iteration": epoch, "done": epoch == 2}
        order.update_last_result({**result, "config": config, "time_total_s": 1.0, "timestamp": 5, "pid": 7})
    return order


def test_of_an_order_that_has_ended_nothing_large_is_kept(tmp_path: Path) -> None:
    """Also where another version of Ray has other names for it."""
    order = ended(tmp_path)
    before = sum(map(len, order.get_json_state()))
    search._forget(order)
    order.invalidate_json_state()
    told = order.get_json_state()
    assert sum(map(len, told)) < before / 3
    assert "learning_rate" not in "".join(told)
    assert not order.is_finished()
    assert str(order)


def test_an_order_is_forgotten_when_all_have_been_told_of_its_end(tmp_path: Path) -> None:
    class Watcher:
        def update(self, studies: Any) -> None:
            pass

    order, nothing = ended(tmp_path), None
    record = search._Record(nothing, Watcher())  # type: ignore[arg-type]
    record.on_trial_complete(1, [order], order)
    assert order.last_result["parameters"] == 256, "Tune tells its searcher of it next"
    record.on_step_end(1, [])
    assert "parameters" not in order.last_result
