"""A study in optuna-dashboard: a copy in memory that follows it, with names, notes and figures.

The study itself is read alone: a dashboard may stand beside a search. In the copy each trial has
its own share of a cohort's time, and attributes that fit in a line.
"""

import threading
import warnings
from collections.abc import Callable, Iterable
from contextlib import suppress
from datetime import datetime, timedelta

import optuna
from optuna.storages import InMemoryStorage
from optuna.trial import FrozenTrial

from dsaccel.errors import UserError
from dsaccel.parts import BUILTIN, load_part
from dsaccel.study.note import study_note
from dsaccel.study.record import StudyRecord
from dsaccel.study.rows import Row, best_row, read_rows
from dsaccel.study.storage import quiet_optuna
from dsaccel.text import percent, printable

FOLLOW_S = 5.0
"""The seconds between two looks at the study."""


class Copy(InMemoryStorage):
    """A copy of a study in which every trial has its name, a note and its own time."""

    def __init__(self, read: Callable[[], StudyRecord]) -> None:
        super().__init__()
        self._read = read
        self._stopped = threading.Event()
        self._seen: object = None
        self.refresh()

    def refresh(self) -> None:
        """Copy the study as it stands, if it has changed."""
        record = self._read()
        seen = [(t.state, len(t.intermediate_values)) for t in record.trials], record.baseline
        if seen != self._seen:
            vars(self).update(vars(_copied(record)))
            self._seen = seen

    def follow(self) -> None:
        """Keep up with the study until `stop`; a storage that is away is asked again."""
        while not self._stopped.wait(FOLLOW_S):
            with suppress(UserError):
                self.refresh()

    def stop(self) -> None:
        self._stopped.set()


def serve(read: Callable[[], StudyRecord], port: int, tell: Callable[[str], object]) -> None:
    """Show a study on this machine's loopback address, until interrupted.

    Args:
        read: the study as it stands.
        port: where; 0: any that is free.
        tell: is told the address.

    Raises:
        OSError: if the port cannot be used.
    """
    from socketserver import ThreadingMixIn
    from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

    from optuna_dashboard import wsgi

    class Quiet(WSGIRequestHandler):
        def log_message(self, format: str, *args: object) -> None:
            """A line for each request is no news."""

    class Threads(ThreadingMixIn, WSGIServer):
        daemon_threads = True

    copy = Copy(read)
    with make_server("127.0.0.1", port, wsgi(copy), Threads, Quiet) as server:
        tell(f"http://127.0.0.1:{server.server_port}/dashboard/studies/0")
        threading.Thread(target=copy.follow, daemon=True).start()
        try:
            server.serve_forever()
        finally:
            copy.stop()


def _copied(record: StudyRecord) -> InMemoryStorage:
    """A study in memory with what the dashboard shows."""
    from optuna_dashboard import save_note, save_plotly_graph_object

    quiet_optuna()
    storage = InMemoryStorage()
    study = optuna.create_study(study_name=record.name, storage=storage, direction="maximize")
    rows = {row.number: row for row in read_rows(record)}
    best = best_row(list(rows.values()))
    number_of_cohort = _by_cohort(rows.values())
    for trial in record.trials:
        row = rows.get(trial.number)
        study.add_trial(trial if row is None else _shown(trial, row))
        if row is not None:
            copied = optuna.Trial(study, trial.number)
            save_note(copied, trial_note(row, number_of_cohort[row.trial.cohort], row is best))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        study.set_metric_names(["validation accuracy"])
    save_note(study, study_note(record.config))
    for name in BUILTIN["figure"]:
        part = load_part("figure", name)
        figure = part.draw(record)
        if figure.data:
            title = {"text": part.title.format(step=record.step_name), "y": 1, "yref": "container"}
            room = (figure.layout.margin.t or 60) + 30
            figure.update_layout(title=title | {"yanchor": "top", "pad_t": 8}, margin_t=room)
            save_plotly_graph_object(study, figure, graph_object_id=name)
    return storage


def _shown(trial: FrozenTrial, row: Row) -> FrozenTrial:
    """A trial with attributes of a line each, and the time that was its own."""
    attributes = {
        "hierarchy": row.hierarchy,
        "state": row.state,
        "parameters": row.num_parameters,
        "FLOPs": row.flops,
        "shallow scale": row.shallow_scale,
        **{f"exit {exit}": accuracy for exit, accuracy in row.trial.exits.items()},
    }
    copy = optuna.create_trial(
        state=trial.state,
        value=trial.value,
        params=trial.params,
        distributions=trial.distributions,
        user_attrs={key: value for key, value in attributes.items() if value is not None},
        intermediate_values=trial.intermediate_values,
    )
    copy.datetime_start, copy.datetime_complete = trial.datetime_start, trial.datetime_complete
    if row.time_s is not None and isinstance(trial.datetime_complete, datetime):
        copy.datetime_start = trial.datetime_complete - timedelta(seconds=row.time_s)
    return copy


def trial_note(row: Row, others: Iterable[Row], is_best: bool) -> str:
    """Describe a trial in markdown: its name, its stages, its accuracy, and why it stopped."""
    lines = [f"### {printable(row.hierarchy)}" + (" (best)" if is_best else ""), ""]
    lines += [f"`{strip(row)}`", "", f"{row.state}, {percent(row.accuracy)}", ""]
    if row.trial.exits:
        lines += ["| exit | accuracy |", "|---|---|"]
        lines += [f"| {exit} | {percent(reached)} |" for exit, reached in row.trial.exits.items()]
        lines += [""]
    if row.kind == "pruned" and row.step is not None:
        read = sorted((v for o in others if (v := o.trial.by_step.get(row.step))), reverse=True)
        own = row.trial.by_step[row.step]
        place, going_on = 1 + sum(value > own for value in read), len(read) - 1
        lines += [
            f"Pruned at {row.step_name} {row.step}: rank {place} of {going_on + 1} of its cohort."
        ]
    return "\n".join(lines)


def strip(row: Row) -> str:
    """The blocks of each stage: `■■ │ ■ │ ■■■`."""
    return " │ ".join("■" * blocks for blocks in row.trial.hierarchy.blocks)


def _by_cohort(rows: Iterable[Row]) -> dict[int, list[Row]]:
    cohorts: dict[int, list[Row]] = {}
    for row in rows:
        cohorts.setdefault(row.trial.cohort, []).append(row)
    return cohorts
