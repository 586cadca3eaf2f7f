"""What is shown while something trains: a live panel on a terminal, a line a rung elsewhere."""

import time
from contextlib import ExitStack
from typing import Self

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from dsaccel.confirm.jobs import ConfirmProgress
from dsaccel.paper.train import JobProgress
from dsaccel.report.confirmation import progress_line, progress_panel
from dsaccel.search.progress import Progress
from dsaccel.spec.hierarchy import Hierarchy
from dsaccel.text import about, percent
from dsaccel.ticks import listening

NUM_SHOWN = 6
BAR_WIDTH = 32
REDRAW_S, LINE_S = 0.1, 15.0
"""The seconds between two looks at what is counted: on a terminal, and between lines elsewhere."""
MODE_NAMES = {"local": "layer-wise", "global": "global", "supervised": "deeply supervised"}


class LiveView(ExitStack):
    """A context manager; `show` what has come, as often as it comes."""

    def __init__(self, console: Console, *, quiet: bool = False, verbose: bool = False) -> None:
        super().__init__()
        self._console, self._quiet, self._verbose = console, quiet, verbose
        # not `is_terminal`, which FORCE_COLOR makes true of a pipe
        live = console.is_terminal and console.file.isatty() and not quiet
        self._live = Live(console=console, transient=True) if live else None
        self._panel: RenderableType = ""
        self._ticked = time.monotonic()

    def __enter__(self) -> Self:
        self.enter_context(listening(self.tick))
        if self._live is not None:
            self.enter_context(self._live)
        return self

    def tick(self, what: str, done: int, total: int) -> None:
        """Show how far a long loop is, now and then."""
        now = time.monotonic()
        if done == total and self._live is not None:
            self._live.update(self._panel)
        if (
            self._quiet
            or done == total
            or now - self._ticked < (LINE_S if self._live is None else REDRAW_S)
        ):
            return
        self._ticked = now
        if self._live is None:
            self._console.print(f"{what} {done:,} of {total:,}", highlight=False)
            return
        row = Table.grid(padding=(0, 2))
        row.add_row(what, ProgressBar(total, done, BAR_WIDTH), f"{done:,} of {total:,}")
        self._live.update(Group(self._panel, row) if self._panel else row)

    def show(self, panel: Table, line: str) -> None:
        """The panel on a terminal, the line elsewhere; both if `verbose`."""
        self._ticked = time.monotonic()
        if self._live is not None:
            self._panel = panel
            self._live.update(panel)
        if not self._quiet and (self._live is None or self._verbose):
            self._console.print(line, highlight=False)


class ProgressView(LiveView):
    """Shows the progress of a search, of a confirmation, or of the paper's networks."""

    def update(self, progress: Progress | ConfirmProgress | JobProgress) -> None:
        """Show how far it has come after a rung."""
        if isinstance(progress, Progress):
            self.show(_panel(progress), _line(progress))
        elif isinstance(progress, ConfirmProgress):
            self.show(progress_panel(progress), progress_line(progress))
        else:
            self.show(_job_panel(progress), _job_line(progress))


def _job_panel(progress: JobProgress) -> Table:
    table = Table.grid(padding=(0, 2))
    what = Text(f"reproduce: {MODE_NAMES[progress.mode]}", style="bold")
    table.add_row(what, f"{progress.number} of {progress.num_jobs}, seed {progress.seed}")
    table.add_row("epoch", f"{progress.epoch} of {progress.num_epochs}")
    table.add_row("networks", "  ".join(progress.names))
    return table


def _job_line(progress: JobProgress) -> str:
    return (
        f"reproduce {MODE_NAMES[progress.mode]} {progress.number}/{progress.num_jobs}  "
        f"seed {progress.seed}  epoch {progress.epoch}/{progress.num_epochs}  "
        f"{' '.join(progress.names)}"
    )


def _panel(progress: Progress) -> Table:
    table = Table.grid(padding=(0, 2))
    what = "search" if progress.phase == "search" else "baseline: global back-propagation"
    table.add_row(
        Text(what, style="bold"), f"{progress.step_name} {progress.step} of {progress.num_steps}"
    )
    table.add_row("trained", f"{progress.num_trained} of {progress.n_trials} hierarchies")
    table.add_row("live trials", f"{len(progress.living)}: {_shown(progress.living)}")
    if progress.best is not None:
        hierarchy, accuracy = progress.best
        shown = Text.assemble((str(hierarchy), "green"), f"  {percent(accuracy)}")
        table.add_row("best so far", shown)
    elif progress.leader is not None:
        hierarchy, accuracy = progress.leader
        table.add_row("leading", f"{hierarchy}  {percent(accuracy)} (deepest local head)")
    if progress.workers is not None:
        table.add_row("workers", progress.workers)
    if progress.time_left_s is not None:
        table.add_row("time left", f"about {about(progress.time_left_s)}")
    return table


def _line(progress: Progress) -> str:
    parts = [f"{progress.phase} {progress.step_name} {progress.step}/{progress.num_steps}"]
    parts.append(f"live {len(progress.living)}")
    parts.append(f"trained {progress.num_trained}/{progress.n_trials}")
    shown = progress.best or progress.leader
    if shown is not None:
        parts.append(f"{'best' if progress.best else 'leading'} {shown[0]} {percent(shown[1])}")
    if progress.workers is not None:
        parts.append(f"workers {progress.workers}")
    if progress.time_left_s is not None:
        parts.append(f"left {about(progress.time_left_s)}")
    return "  ".join(parts)


def _shown(hierarchies: tuple[Hierarchy, ...]) -> str:
    more = len(hierarchies) - NUM_SHOWN
    return "  ".join(map(str, hierarchies[:NUM_SHOWN])) + (f"  and {more} more" if more > 0 else "")
