"""A test for non-inferiority: how many seeds it takes, told before they are trained."""

from collections.abc import Mapping
from typing import Any


def plan_text(margin: Mapping[str, Any]) -> str:
    """How many seeds a test for non-inferiority takes, told before they are trained."""
    points, pilot, num = margin["points"], len(margin["pilot"]), margin["seeds"]
    if num is None:
        return (
            f"margin of {points:g} points: no pilot tells how many seeds are needed; confirm with "
            "a few seeds and without a margin first"
        )
    return (
        f"margin of {points:g} points: {num} seeds beside the pilot's {pilot} find a network that "
        f"is as good as back-propagation not inferior in 80 % of such tests (--seeds {pilot + num})"
    )
