"""`harvest.csv`: each network once, as far as it was trained, until it is a trial."""

import pytest

from dsaccel.study.harvest import Harvest, add_harvest

HEADER = "hierarchy,epochs,val_accuracy,head_accuracy,num_parameters,flops,why"


def network(hierarchy="1-1", epochs=4, accuracy: float | None = 0.5, why="outside, by one"):
    return Harvest(hierarchy, epochs, accuracy, 0.25, 100, 200, why)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "harvest.csv"


def lines(path):
    assert [p.name for p in path.parent.iterdir()] == [path.name]
    return path.read_text().splitlines()


def test_there_is_a_file_only_if_there_is_a_network(path):
    add_harvest(path, [], [])
    add_harvest(path, [network()], ["1-1"])
    assert not path.exists()
    add_harvest(path, [network(accuracy=None)], ["2-2"])
    assert lines(path) == [HEADER, '1-1,4,,0.25,100,200,"outside, by one"']


def test_networks_are_appended_and_stand_there_once_as_far_as_trained(path):
    add_harvest(path, [network("1-2"), network("1-1")], [])
    add_harvest(path, [network("1-1", epochs=3), network("1-2", epochs=8), network("2-1")], [])
    assert [line[:5] for line in lines(path)[1:]] == ["1-2,8", "1-1,4", "2-1,4"]


def test_a_network_that_is_a_trial_leaves_and_the_last_one_takes_the_file_along(path):
    add_harvest(path, [network("1-1"), network("1-2")], [])
    add_harvest(path, [], ["1-1", "3-3"])
    assert [line[:3] for line in lines(path)[1:]] == ["1-2"]
    add_harvest(path, [], ["1-1", "1-2"])
    assert not path.exists()


@pytest.mark.parametrize("damage", ["", "a,b\n1,2\n", HEADER + "\n1-1,x,,,,,\n1-1\n", "\0\xff"])
def test_what_someone_has_damaged_does_not_stop_a_search(path, damage):
    path.write_text(damage)
    add_harvest(path, [network("2-1")], [])
    assert [line[:5] for line in lines(path)] == [HEADER[:5], "2-1,4"]


def test_a_file_that_stays_the_same_is_not_written(path):
    add_harvest(path, [network()], [])
    path.chmod(0o444)
    before = path.stat()
    add_harvest(path, [network()], ["2-2"])
    assert (path.stat().st_ino, path.stat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns)
