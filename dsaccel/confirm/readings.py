"""Readings of the test split, as jobs that any worker can do. Nothing is decided by them."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from dsaccel.confirm.entrants import Entrants, GlobalSettings, load_networks
from dsaccel.confirm.jobs import Job, entrants_of
from dsaccel.data.load import load_test
from dsaccel.errors import MismatchError
from dsaccel.training.descent import right_images
from dsaccel.training.station import Station


@dataclass(frozen=True)
class Unread:
    """Networks that were trained together and have not been read on the test split."""

    job: Job
    own: GlobalSettings
    weights: Path


@dataclass(frozen=True)
class TestImages:
    """What a test split is, without its images."""

    num_images: int
    fingerprint: str

    def check(self, recorded: str, study: str) -> None:
        """
        Raises:
            MismatchError: if a confirmation was read on images of another fingerprint.
        """
        if recorded != self.fingerprint:
            raise MismatchError(
                f"data: the {self.num_images:,} test images are not those that this confirmation "
                f"was read on (fingerprint {recorded[:12]} in the study, {self.fingerprint[:12]} "
                "now), and accuracies on others cannot be compared: put the earlier ones back; "
                f"what is recorded is shown by: dsaccel report {study}"
            )


@dataclass(frozen=True)
class Reading:
    """What networks have read of the test images, in the order of their job."""

    right: Sequence[np.ndarray]
    """Which images each gets right, (N,) bool."""
    images: TestImages

    @property
    def accuracies(self) -> list[float]:
        return [int(right_N.sum()) / len(right_N) for right_N in self.right]


def read_networks(station: Station, unread: Unread) -> Reading:
    """Read networks at a station."""
    return reading(entrants_of(station), unread)


def reading(entrants: Entrants, unread: Unread) -> Reading:
    """Read the test images with each network of a job.

    Raises:
        ConfigError: if the test images cannot be read.
    """
    job = unread.job
    data = entrants.load_data(job.seed)
    cohort = entrants.cohort(job.entries, job.mode, data, unread.own)
    load_networks(unread.weights, cohort)
    test = load_test(data)
    right = right_images(cohort.trie, cohort.learners, test.batches())
    return Reading(
        [right[entry.key].numpy() for entry in job.entries],
        TestImages(len(test.labels), test.fingerprint),
    )


def test_images(entrants: Entrants) -> TestImages:
    """Look at the test images without a network.

    Raises:
        ConfigError: if they cannot be read.
    """
    test = load_test(entrants.load_data(entrants.config.seed))
    return TestImages(len(test.labels), test.fingerprint)
