"""Sequential, but a rung comes after the first unit of the next stage: what a beam search reads."""

from dsaccel.schedules import Schedule
from dsaccel.schedules.sequential import Sequential


class LookingAhead(Sequential):
    """One unit after another; a stage's rung comes after the first unit of the next one, whose head
    is then the deepest. That changes no unit.
    """

    looks_ahead = True


def ahead_of(schedule: Schedule) -> LookingAhead:
    """The same schedule, with rungs that look ahead."""
    return LookingAhead(**schedule.model_dump())
