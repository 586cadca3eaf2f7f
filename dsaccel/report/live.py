"""What is shown while something trains: a live panel on a terminal, a line a rung elsewhere."""

from types import TracebackType
from typing import Self

from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from dsaccel.confirm.run import ConfirmProgress
from dsaccel.paper.train import JobProgress
from dsaccel.report.confirmation import progress_line, progress_panel
from dsaccel.search.progress import Progress
from dsaccel.spec.hierarchy import Hierarchy
from dsaccel.text import duration, percent

NUM_SHOWN = 6
MODE_NAMES = {"local": "layer-wise", "global": "global"}


class LiveView:
    """A context manager; `show` what has come, as often as it comes."""

    def __init__(self, console: Console, *, quiet: bool = False, verbose: bool = False) -> None:
        self._console = console
        self._quiet = quiet
        self._verbose = verbose
        # not `is_terminal`, which FORCE_COLOR makes true of a pipe
        live = console.is_terminal and console.file.isatty() and not quiet
        self._live = Live(console=console, transient=True) if live else None

    def __enter__(self) -> Self:
        if self._live is not None:
            self._live.start()
            self._live.update("training up to the first rung ...")
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._live is not None:
            self._live.stop()

    def show(self, panel: Table, line: str) -> None:
        """The panel on a terminal, the line elsewhere; both if `verbose`."""
        if self._live is not None:
            self._live.update(panel)
        if not self._quiet and (self._live is None or self._verbose):
            self._console.print(line, highlight=False)


class ProgressView(LiveView):
    """Of a search, of a confirmation, and of the paper's networks."""

    def update(self, progress: Progress | ConfirmProgress | JobProgress) -> None:
        """After a rung."""
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
        table.add_row("time left", f"about {duration(progress.time_left_s)}")
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
        parts.append(f"left {duration(progress.time_left_s)}")
    return "  ".join(parts)


def _shown(hierarchies: tuple[Hierarchy, ...]) -> str:
    more = len(hierarchies) - NUM_SHOWN
    return "  ".join(map(str, hierarchies[:NUM_SHOWN])) + (f"  and {more} more" if more > 0 else "")
