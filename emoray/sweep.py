"""From face images and one sweep file to trained models, an ensemble and a report: `python -m emoray.sweep FILE`.

Each stage leaves its result in the run folder, so each can be run again alone. Nothing that is pickled may be defined
here: this module runs as `__main__`.
"""

import sys
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING

from emoray import (
    candidates,
    class_names,
    cluster,
    config,
    display,
    forecast,
    held_out,
    intact,
    metrics,
    overrides,
    ownership,
    placement,
    plan,
    preflight,
    registry,
    run_folder,
    runs,
    storage,
    trials,
    versions,
)
from emoray.closing import closing
from emoray.config import Sweep
from emoray.errors import Stopped, UserError
from emoray.run_folder import RunFolder
from emoray.s3 import S3Path
from emoray.storage import AnyPath

if TYPE_CHECKING:
    from emoray.data import Prepared
    from emoray.finalize import Result


@dataclass(frozen=True)
class Arguments:
    """What the command line asks of a sweep."""

    file: str
    set: tuple[str, ...] = ()
    storage: str | None = None
    address: str | None = None
    resume: bool = False
    retry_failed: bool = False
    dry_run: bool = False
    measure: bool = False
    plain: bool = False
    tensorboard: bool = False


def run(arguments: Arguments) -> None:
    """The whole line, from the sweep file to the report.

    Raises UserError for a user's mistake, SweepFailed where no trial came through, Stopped after Ctrl-C.
    """
    sweep, problems = config.read(arguments.file, arguments.set, arguments.storage)
    with registry.importable(sweep.import_path):  # a schedule of the file's own is asked when trials are judged
        here = None if arguments.address else cluster.local_resources()
        start = preflight.check(sweep, problems, here)  # refuses what cannot run, before anything is spent
        problems.refuse(arguments.file)
        assert start is not None
        _run(sweep, start, here, arguments)


def _run(sweep: Sweep, start: preflight.Found, here: placement.Cluster | None, arguments: Arguments) -> None:
    resume = arguments.resume or arguments.retry_failed
    option = "--retry-failed" if arguments.retry_failed else "--resume"
    found = runs.find(sweep, resume, option) if resume or arguments.measure or not arguments.dry_run else None
    if found is not None:
        held_out.check(found, start.fingerprint, None)
    told = "" if here is None else plan.describe(sweep, here, start.source)
    screen = display.on_terminal(arguments.plain)
    with runs.held(None if arguments.dry_run else found, screen.say):  # another's is refused before Ray starts
        if arguments.retry_failed and found is not None:
            plan.check_failed(found)
        if arguments.dry_run and here is not None:
            _print_plan(told, sweep, start, found, arguments)
            if not arguments.measure:
                return
        _on_cluster(sweep, start, found, screen, arguments)


def _on_cluster(
    sweep: Sweep, start: preflight.Found, found: RunFolder | None, screen: display.Display, arguments: Arguments
) -> None:
    """What is left of the line when the sweep is known to be in order, or the rest of its plan, on Ray."""
    screen.say(_begin(arguments.address))
    with ExitStack() as owned, cluster.connected(arguments.address, sweep.import_path, screen.say) as machine:
        if arguments.address:
            told = plan.describe(sweep, machine, start.source)  # what can run is known only now
            if arguments.dry_run:
                _print_plan(told, sweep, start, found, arguments)
                if not arguments.measure:
                    return
        # Keras and Ray's libraries take seconds to import: only now.
        from emoray import data, measuring, tracking
        from emoray.trial.data import load

        screen.say(display.machines(machine))
        if arguments.address:
            _check_nodes(storage.at(sweep.storage), sweep)
        cache = str(storage.at(sweep.storage) / ".cache")
        prepared = data.prepare(sweep.data, cache=cache, seed=sweep.seed, progress=screen.say)
        if found is not None:
            held_out.check(found, prepared.manifest["fingerprint"], prepared.manifest["classes"])
        metrics.check(sweep.search.metric, prepared.manifest["classes"], prepared.measured)
        mode = placement.mode(sweep, prepared.train_bytes, machine)
        forecast.check_memory(mode, prepared.train_bytes, machine)
        slots = placement.slots(sweep, machine, mode)
        losses = {study.name: study.space["loss"] for study in sweep.studies}
        class_names.check(losses, prepared.manifest["classes"])
        if arguments.measure:
            screen.say("measuring a few steps of each architecture")
            with screen.at_work():
                costs = measuring.costs(sweep, load(prepared, mode), slots)
            screen.say(plan.measured(sweep, costs, slots))
        if arguments.dry_run:
            return
        for doubt in plan.doubts(sweep, machine, slots, mode, prepared.train_bytes):
            screen.say(doubt)
        for change in runs.changed(found, sweep) if found is not None else ():  # before the run's own file is written
            screen.say(f"resume: {change}")
        tracking.check(sweep)
        folder = owned.enter_context(runs.opened(sweep, found, prepared.folder, screen.say))  # left when Ray has ended
        screen.say(display.about(prepared.manifest))
        screen.say(display.at_once(min(slots, forecast.total(sweep)), mode))
        screen.say(f"run folder: {folder.path}/")
        result = _train_and_finalize(sweep, folder, prepared, mode, slots, screen, arguments)
    screen.say(closing(result.candidates, result.ensemble, folder, screen.width))


def _begin(address: str | None) -> str:
    return f"joining the Ray cluster at {address}" if address else "starting Ray"


def _print_plan(told: str, sweep: Sweep, start: preflight.Found, found: RunFolder | None, arguments: Arguments) -> None:
    print(told)
    if start.known.unread:
        print(f"not told   {start.known.unread}: a run refuses classes that are not in it")
    if found is not None:
        print(plan.going_on(sweep, found, arguments.retry_failed))


def _train_and_finalize(
    sweep: Sweep,
    folder: RunFolder,
    prepared: "Prepared",
    mode: str,
    slots: int,
    screen: display.Display,
    arguments: Arguments,
) -> "Result":
    """The search, followed by all that watches it, and what is made of its best trials."""
    from emoray import finalize, search, tracking
    from emoray.trial.data import load

    kept = held_out.keep(folder, prepared)
    trackers = tracking.trackers(sweep, folder, arguments.tensorboard)
    try:
        with screen:
            studies = search.run(
                sweep,
                trials.restore(folder, sweep.components),
                load(prepared, mode),
                slots,
                tracking.Together([screen, *trackers]),
                retry_failed=arguments.retry_failed,
            )
        if told := display.failures(studies.table, folder):
            screen.say(told)
        with screen.at_work():
            return finalize.run(folder, sweep, kept, screen.say)
    except KeyboardInterrupt:
        raise Stopped from None
    finally:
        for tracker in trackers:
            if left := tracker.close():
                screen.say(left)


def _check_nodes(place: AnyPath, sweep: config.Sweep | None = None) -> None:
    """Refuse a cluster one of whose machines has another emoray, cannot write to S3, or lacks weights of a sweep."""
    from emoray import tasks

    here = versions.of_emoray()
    for node, there in tasks.on_each_node(versions.of_emoray).items():
        if there != here:
            why = tasks.reason(there) if isinstance(there, Exception) else f"it has {there}"
            raise UserError(f"--address: node {node} cannot run emoray {here} ({why}); install the same on all nodes")
    for node, found in tasks.on_each_node(plan.check_weights, sweep).items() if sweep else ():
        if isinstance(found, Exception):
            raise UserError(f"node {node}: {tasks.reason(found)}")
    if isinstance(place, S3Path):
        for node, found in tasks.on_each_node(storage.check_writable, place).items():
            if isinstance(found, Exception):
                told = getattr(found, "strerror", None) or found
                raise UserError(f"storage: {place}/ cannot be written from node {node}: {told}")


def finalize_again(
    folder: AnyPath,
    settings: Sequence[str] = (),
    address: str | None = None,
    plain: bool = False,
    run_components: bool = False,
) -> None:
    """The last stage alone, over the trials that a run folder holds, with `settings` over those of its sweep file.

    Components of the run's own are code, which runs only with `run_components`. Raises UserError where it is no run
    folder, holds nothing that could be finalized or would reach out of itself, or another process is at work on it.
    """
    run = RunFolder(folder)
    if not run.sweep.exists():
        raise UserError(f"{folder} is no run folder: {run.sweep} is missing; {run_folder.suggestion(folder)}")
    intact.links(folder)
    versions.read(run)
    screen = display.on_terminal(plain)
    with ownership.of(folder, screen.say), runs.at_hand(run) as own:
        searched = config.load(own / run.sweep.name)
        own_settings = [one for one in settings if one.startswith("finalize.")]
        sweep, problems = config.read(own / run.sweep.name, own_settings)
        for one in [one for one in settings if one not in own_settings]:
            problems.add(f"--set {one}", "only finalize.* can differ from what the run was trained with")
        overrides.refuse(settings, problems)
        if not run_components:
            intact.components(sweep.resolved()["finalize"], (), run.sweep)
        table = trials.restore(run, sweep.components if run_components else ())
        if not candidates.trained(table):
            raise UserError(candidates.why_none(table))
        kept = held_out.read(run)
        paths = sweep.import_path if run_components else []
        screen.say(_begin(address))
        with registry.importable(paths), cluster.connected(address, paths, screen.say):
            if address:
                _check_nodes(folder)
            from emoray import finalize

            kept = kept or held_out.anew(run, sweep, screen.say)
            with screen.at_work():
                result = finalize.run(run, sweep, kept, screen.say, searched.finalize)
    screen.say(closing(result.candidates, result.ensemble, run, screen.width))


if __name__ == "__main__":
    from emoray import cli

    sys.exit(cli.main(["sweep", *sys.argv[1:]]))
