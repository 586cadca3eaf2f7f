"""`dsaccel clean`: remove what a study does not need any more."""

from dsaccel.cli.options import StudyName
from dsaccel.cli.output import Output


def clean(study: StudyName) -> None:
    """Remove the files of a study that are no longer needed.

    What it takes to go on, to confirm and to report stays.
    """
    from dsaccel.api import Study

    removed = Study.load(study).clean()
    output = Output()
    for path in removed:
        output.show(path.as_posix())
    output.show(f"{len(removed)} files removed, {sum(removed.values()) / 2**20:.1f} MiB")
