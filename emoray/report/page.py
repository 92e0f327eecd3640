"""The page: one HTML file made from a run folder, with its style and script inside.

The one rule to know: everything that a user named (classes, files, studies, errors) passes through Jinja's escaping;
only Plotly and the style and the script of this folder are put in as they are. The page's own security policy forbids
every request, and every script but these two, by their hashes.
"""

import base64
import functools
import hashlib
import json
import shlex
from datetime import UTC, datetime
from pathlib import Path

import yaml
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup
from plotly.offline import get_plotlyjs

from emoray import advice
from emoray.report import charts, gallery, importance, members, pace, parallel, scores, settings, tables
from emoray.report.answer import answer, duration, plain, signed
from emoray.report.figure import COLOURS
from emoray.report.run import Run, read
from emoray.run_folder import RunFolder, write_text
from emoray.storage import AnyPath
from emoray.text import shortened

HERE = Path(__file__).parent
LONGEST = 32
"""Letters of a name in a table; a pointer over it shows the whole."""


def write(run_folder: AnyPath) -> AnyPath:
    """Writes `report.html` into a run folder and returns its path; raises UserError if it is not a run folder."""
    folder = RunFolder(run_folder)
    write_text(folder.report, html(read(folder.path)))
    return folder.report


def html(run: Run) -> str:
    """The whole page as text."""
    scripts = [get_plotlyjs(), (HERE / "page.js").read_text(encoding="utf-8")]
    methods = tables.methods(run)
    test = run.ensemble.get("test") or {}
    splits, classes = tables.class_counts(run.manifest)
    return (
        _environment()
        .get_template("page.html")
        .render(
            run=run,
            written=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
            style=Markup((HERE / "style.css").read_text(encoding="utf-8")),
            scripts=[Markup(script) for script in scripts],
            script_hashes=[base64.b64encode(hashlib.sha256(s.encode()).digest()).decode() for s in scripts],
            colours=COLOURS,
            answer=answer(run),
            score_title=scores.score_title(run),
            lower=scores.LOWER,
            natural=functools.partial(scores.natural, run),
            trials=tables.ranked(run),
            selected=tables.selected(run),
            alone=advice.alone(run.ensemble),
            method=advice.method(run.ensemble),
            chips=settings.compact(run),
            left_out=tables.left_out(run),
            curves=charts.learning_curves(run),
            progress=charts.progress(run),
            savings=tables.savings(run),
            paces=pace.paces(run),
            own_code=bool((yaml.safe_load(run.sweep) or {}).get("components")),
            stop_reasons=tables.stop_reasons(run),
            failures=tables.failures(run),
            test=test,
            dark=tables.DARK,
            confusion=tables.confusion(test, run.ensemble.get("classes") or run.manifest.get("classes") or ()),
            calibration=test.get("calibration") or {},
            reliability=charts.reliability((test.get("calibration") or {}).get("bins") or ()),
            mistakes=gallery.mistakes(run),
            doubts=gallery.doubts(run),
            inside_roles=tables.inside_roles(run),
            label_doubts=gallery.label_doubts(run),
            label_issues=run.ensemble.get("label_issues") or {},
            comparison=tables.comparison(run),
            member_chart=members.chart(run),
            member_metric=members.metric(run),
            agreement=tables.agreement(run),
            importances=[(study, importance.chart(study)) for study in importance.importances(run)],
            examples=run.pictures.get("examples") or {},
            members=tables.members(run),
            test_scores=tables.test_scores(test),
            methods=methods,
            resamples=importance.RESAMPLES,
            fewest=importance.FEWEST,
            gains=charts.gains(methods, scores.score_title(run)),
            parallels=parallel.charts(run),
            splits=splits,
            classes=classes,
        )
    )


@functools.cache
def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(HERE), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= {
        "duration": duration,
        "signed": signed,
        "decimals": plain,
        "metric": scores.title,
        "shortened": functools.partial(shortened, width=LONGEST),
        "quoted": _quoted,
        "python": _python,
        "as_json": json.dumps,  # for people; `tojson` is for scripts
    }
    environment.policies["json.dumps_kwargs"] = {"separators": (",", ":"), "allow_nan": False}
    return environment


def _quoted(path: AnyPath) -> str:
    """A path as a shell takes it."""
    return shlex.quote(str(path))


def _python(value: str | list[int]) -> str:
    """A text or a list as Python takes it, the list as a tuple."""
    return repr(tuple(value) if isinstance(value, list) else value)
