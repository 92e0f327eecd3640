"""The command line: arguments in, exit status out. Only here are errors turned into sentences.

Exit status: 0 done, 1 the sweep failed, 2 a mistake of the user's, 130 stopped by Ctrl-C, 143 by SIGTERM.
"""

import argparse
import csv
import errno
import os
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from emoray import __version__, catalogue, config, intact, listing, run_folder, storage, sweep, termination, text
from emoray.errors import Stopped, SweepFailed, UserError
from emoray.s3 import RemoteError
from emoray.storage import AnyPath

LISTED = 5
"""Files that could not be used, of those that a person is told on a terminal."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit status."""
    with termination.handled() as asked:
        status = _run(argv)
    return 143 if status == 130 and asked.received else status


def _run(argv: Sequence[str] | None) -> int:
    try:
        arguments = _parser().parse_args(argv)
        arguments.run(arguments)
    except UserError as error:
        _complain(f"error: {listing.printable(str(error))}")
        return 2
    except SweepFailed as error:
        _complain(f"failed: {listing.printable(str(error))}")
        return 1
    except (Stopped, KeyboardInterrupt) as error:
        given = sys.argv[1:] if argv is None else argv
        _complain(f"\nstopped{_going_on(given, isinstance(error, Stopped))}")
        return 130
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # the reader, such as `head`, has seen enough
        return 0
    except Exception as error:
        broken = _disk_error(error)
        if broken is None:
            raise
        told = f"{broken.filename or 'the disk'}: {broken.strerror}"
        if isinstance(broken, RemoteError) and arguments.run is not _sweep:
            _complain(f"error: {told}")
            return 2
        _complain(f"failed: {told}; {storage.remedy(told)}")
        return 1
    return 0


def _complain(told: str) -> None:
    print(text.wrapped(told, text.width_of(sys.stderr)), file=sys.stderr)


def _meant(given: str) -> AnyPath:
    return run_folder.meant(storage.at(given))


def _going_on(given: Sequence[str], begun: bool) -> str:
    """What there is to say after Ctrl-C: of a sweep, the command with which it goes on, where it had `begun`.

    The failed trials that were to run again are then among those that have not ended, so `--resume` takes them up.
    """
    if given[:1] != ["sweep"]:
        return ""
    of_a_run = [word for word in given if word in ("--resume", "--retry-failed")]
    if not begun and not of_a_run:
        return "; nothing was trained"
    again = [*(word for word in given if word not in of_a_run), *(["--resume"] if begun else of_a_run)]
    return f"; what was trained is kept. Go on with:\n{text.CODE}{shlex.join(['emoray', *again])}"


def _disk_error(error: BaseException | None) -> OSError | None:
    """The full or failing disk, or S3, behind an error, where there is one: Ray wraps what it passes on."""
    while error is not None:
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO):
            return error
        error = getattr(error, "cause", None) or error.__cause__ or error.__context__
    return None


class _Parser(argparse.ArgumentParser):
    """Takes no option by a part of its name: what such a word means would change with the next option."""

    def __init__(self, *arguments: Any, **more: Any) -> None:
        super().__init__(*arguments, **more)
        self.allow_abbrev = False


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="emoray", description="Hyperparameter sweeps for facial-emotion classifiers.")
    parser.add_argument("--version", action="version", version=f"emoray {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    _add_sweep(commands)
    _add_finalize(commands)
    _add_predict(commands)
    _add_augment(commands)
    _add_runs(commands)
    _add_show(commands)
    _add_check(commands)
    return parser


def _add_sweep(commands: "argparse._SubParsersAction[_Parser]") -> None:
    about = "train every model of a sweep file, find the best ensemble and write a report"
    parser = commands.add_parser("sweep", help=about, description=about[0].upper() + about[1:] + ".")
    parser.add_argument("file", metavar="FILE", nargs="?", help="the sweep file, such as sweeps/quickstart.yaml")
    parser.add_argument(
        "--set",
        metavar="KEY=VALUE",
        action="append",
        default=[],
        help="lay a value over the file's: --set data.path=faces/ --set models.lenet.trials=4 (repeatable)",
    )
    parser.add_argument(
        "--storage",
        metavar="FOLDER",
        help="where run folders are kept, a folder or s3://... (default: the file's, or runs)",
    )
    parser.add_argument("--resume", action="store_true", help="go on with the sweep's latest run")
    parser.add_argument("--retry-failed", action="store_true", help="run the failed trials of the latest run again")
    parser.add_argument("--address", metavar="ADDRESS", help="an existing Ray cluster, such as auto or 10.0.0.5:6379")
    parser.add_argument("--dry-run", action="store_true", help="print what would be done, train nothing")
    parser.add_argument(
        "--measure", action="store_true", help="train a few steps of each architecture first: hours, disk, money"
    )
    parser.add_argument("--list", action="store_true", help="print every component with its settings and defaults")
    parser.add_argument("--plain", action="store_true", help="plain lines even on a terminal")
    parser.add_argument("--tensorboard", action="store_true", help="write TensorBoard files into the run folder")
    parser.set_defaults(run=_sweep)


def _add_finalize(commands: "argparse._SubParsersAction[_Parser]") -> None:
    parser = commands.add_parser("finalize", help="choose the ensemble of a run again and write its report")
    parser.add_argument(
        "run_folder",
        metavar="RUN",
        type=_meant,
        help="a run: its folder, runs/quickstart or s3://..., or its name in runs/",
    )
    parser.add_argument(
        "--set", metavar="KEY=VALUE", action="append", default=[], help="other settings: --set finalize.tta=ten_crop"
    )
    parser.add_argument("--address", metavar="ADDRESS", help="an existing Ray cluster, such as auto or 10.0.0.5:6379")
    parser.add_argument("--plain", action="store_true", help="plain lines even on a terminal")
    _add_run_components(parser)
    parser.set_defaults(run=_finalize)


def _add_predict(commands: "argparse._SubParsersAction[_Parser]") -> None:
    parser = commands.add_parser("predict", help="classify image files with the ensemble of a run, as CSV")
    parser.add_argument(
        "run_folder",
        metavar="RUN",
        type=_meant,
        help="a run: its folder, runs/quickstart or s3://..., or its name in runs/",
    )
    told = "PNG, JPEG, WebP or BMP files, or their folders"
    parser.add_argument("images", metavar="IMAGE", type=Path, nargs="+", help=told)
    _add_run_components(parser)
    parser.set_defaults(run=_predict)


def _add_run_components(parser: argparse.ArgumentParser) -> None:
    told = "run the Python that the run folder brings, its own components: it has all your rights"
    parser.add_argument(intact.ALLOW, action="store_true", help=told)


def _add_augment(commands: "argparse._SubParsersAction[_Parser]") -> None:
    parser = commands.add_parser("augment", help="draw what a sweep file's augmentation does to its images")
    parser.add_argument("file", metavar="FILE", help="the sweep file")
    parser.add_argument("--set", metavar="KEY=VALUE", action="append", default=[], help="as for sweep")
    parser.add_argument("--out", metavar="PNG", type=Path, default=Path("sheet.png"), help="default: sheet.png")
    parser.add_argument("--each", action="store_true", help="a row for each component instead of each image")
    parser.set_defaults(run=_augment)


def _add_runs(commands: "argparse._SubParsersAction[_Parser]") -> None:
    parser = commands.add_parser("runs", help="list runs with their state, best score and age")
    parser.add_argument(
        "folder", metavar="FOLDER", type=storage.at, nargs="?", default=run_folder.USUAL, help="default: runs"
    )
    parser.set_defaults(run=lambda arguments: print(listing.runs(arguments.folder)))


def _add_show(commands: "argparse._SubParsersAction[_Parser]") -> None:
    parser = commands.add_parser("show", help="print a run's leaderboard, or a trial's settings, curve and error")
    parser.add_argument(
        "run_folder",
        metavar="RUN",
        type=_meant,
        help="a run: its folder, runs/quickstart or s3://..., or its name in runs/",
    )
    parser.add_argument("trial", metavar="TRIAL", nargs="?", help="a trial of it, such as lenet-001")
    parser.set_defaults(run=_show)


def _add_check(commands: "argparse._SubParsersAction[_Parser]") -> None:
    parser = commands.add_parser("check", help="check a cluster file for `ray up`, without a network")
    parser.add_argument("file", metavar="FILE", type=Path, help="a cluster file, such as cluster/gpu.yaml")
    parser.set_defaults(run=_check)


def _check(arguments: argparse.Namespace) -> None:
    from emoray import cluster_file  # Ray's own checks take a second to import

    checked = cluster_file.check(arguments.file)
    made_of = f"emoray {checked.versions.emoray}, Ray {checked.versions.ray}, Python {checked.versions.python}"
    print(f"{' and '.join(map(str, checked.files))}: nothing wrong ({', '.join(checked.node_types)}; {made_of})")
    for line in checked.unseen:
        print(f"not looked at: {line}")
    for line in checked.to_do:
        print(f"before `ray up`: {line}")


def _show(arguments: argparse.Namespace) -> None:
    folder, trial = arguments.run_folder, arguments.trial
    print(listing.run(folder, text.width_of(sys.stdout)) if trial is None else listing.trial(folder, trial))


def _finalize(arguments: argparse.Namespace) -> None:
    sweep.finalize_again(
        arguments.run_folder, arguments.set, arguments.address, arguments.plain, arguments.run_components
    )


def _predict(arguments: argparse.Namespace) -> None:
    from emoray import predict  # Keras takes seconds to import

    told = predict.files(arguments.run_folder, arguments.images, arguments.run_components)
    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow(["file", "label", "confidence", *told.classes])
    for file, row in zip(told.files, told.probabilities, strict=True):
        writer.writerow([file, told.classes[row.argmax()], f"{row.max():.4f}", *(f"{p:.4f}" for p in row)])
    if told.unusable:
        listed = _listed([f"{file}: {reason}" for file, reason in told.unusable.items()])
        count = len(told.files) + len(told.unusable)
        raise UserError(f"{len(told.unusable)} of {count} files could not be used:\n{listed}")


def _listed(lines: Sequence[str]) -> str:
    """The first lines, and how to have all of them, where people look on; else all."""
    shown = lines if len(lines) <= LISTED + 1 or not sys.stderr.isatty() else lines[:LISTED]
    more = len(lines) - len(shown)
    last = [f"and {more} more; behind the command, 2> unusable.txt writes all of them to a file"] if more else []
    return "\n".join(f"  {line}" for line in [*shown, *last])


def _augment(arguments: argparse.Namespace) -> None:
    from emoray import sheets  # OpenCV and its like take a moment to import

    for told in sheets.draw(config.load(arguments.file, arguments.set), arguments.out, arguments.each):
        print(told)


def _sweep(arguments: argparse.Namespace) -> None:
    if arguments.list:
        print(catalogue.text(arguments.file))
        return
    if arguments.file is None:
        raise UserError("name a sweep file, such as sweeps/quickstart.yaml; --list shows what may stand in it")
    sweep.run(
        sweep.Arguments(
            arguments.file,
            tuple(arguments.set),
            arguments.storage,
            arguments.address,
            arguments.resume,
            arguments.retry_failed,
            arguments.dry_run,
            arguments.measure,
            arguments.plain,
            arguments.tensorboard,
        )
    )


if __name__ == "__main__":
    sys.exit(main())
