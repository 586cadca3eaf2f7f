"""A forecast of a search, for a terminal."""

from rich.table import Table
from rich.text import Text

from dsaccel.search.forecast import Forecast
from dsaccel.text import about

NUM_SHOWN = 12


def forecast_table(forecast: Forecast) -> Table:
    """What `dsaccel search --dry-run` prints."""
    asked = forecast.workload.asked
    size = "too many to list" if forecast.num_feasible is None else f"{forecast.num_feasible:,}"
    more = f" and {len(asked) - NUM_SHOWN} more" if len(asked) > NUM_SHOWN else ""
    names = "  ".join(map(str, asked[:NUM_SHOWN])) + more
    table = Table.grid(padding=(0, 2))
    table.add_row("space", f"{size} hierarchies, {forecast.workload.num_left} to be trained")
    table.add_row("strategy", forecast.strategy)
    table.add_row("first cohort", Text(names or "none: the study is finished"))
    table.add_row("time", f"{about(forecast.total_s)} in all")
    memory = f"{_mib(forecast.cohort_bytes)} for the cohort at once"
    table.add_row("memory", f"{memory}, {_mib(forecast.network_bytes)} for its largest network")
    return table


def _mib(num_bytes: int) -> str:
    return f"{num_bytes / 2**20:,.0f} MiB"
