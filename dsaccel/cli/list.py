"""`dsaccel list`: the studies that were run here."""

from dsaccel.cli.options import Given, takes


@takes("--json")
def list(*, given: Given) -> None:
    """List the studies that were run in this folder, the last first."""
    from dsaccel.report.studies import list_summary, studies_here, studies_table

    found = studies_here()
    output = given.output()
    if given.as_json:
        output.show_json(list_summary(found))
    elif found:
        output.show(studies_table(found))
    else:
        output.show("no study was run here; begin with: dsaccel search")
