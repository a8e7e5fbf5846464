"""What is in the lab's cache was built to its end, and once."""

import os
import threading

import pytest
from ansible.module_utils.plumbline.lab import cache


def test_built_beside_its_place_and_renamed(tmp_path):
    path = str(tmp_path / "cache" / "thing")
    os.makedirs(path + ".part/left")

    def build(part):
        assert part == path + ".part" and not os.path.exists(part), "what an interrupted build left is gone"
        os.mkdir(part)
        return "result"

    result, seconds = cache.build_once(path, build)
    assert result == "result" and seconds >= 0 and os.listdir(path) == []
    assert cache.build_once(path, pytest.fail) is None


def test_failure_leaves_nothing_that_passes_for_built(tmp_path):
    path = str(tmp_path / "thing")

    def build(part):
        os.mkdir(part)
        raise ValueError("no luck")

    with pytest.raises(ValueError, match="no luck"):
        cache.build_once(path, build)
    assert not os.path.exists(path)


def test_two_at_the_same_time_build_once(tmp_path):
    path, built, found = str(tmp_path / "thing"), [], []
    both = threading.Barrier(2)

    def build(part):
        built.append(part)
        os.mkdir(part)

    def run():
        both.wait()
        found.append(cache.build_once(path, build))

    threads = [threading.Thread(target=run) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(built) == 1 and found.count(None) == 1
