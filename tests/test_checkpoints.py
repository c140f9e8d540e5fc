"""Checkpoints: what was saved comes back, what is damaged is noticed, and an interrupted write leaves the old one."""

import os
from pathlib import Path

import pytest
import torch

from dpm.errors import UserError
from dpm.runs import checkpoints


def state(step: int) -> dict[str, object]:
    return {"step": step, "weights": torch.full((3,), float(step)), "groups": [{"lr": 0.1, "step": torch.ones(())}]}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three saves, of which the last two are kept."""
    for step in (10, 20, 100):
        checkpoints.save(tmp_path, step, state(step))
    return tmp_path


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def newest(folder: Path) -> Path:
    return folder / "step-000000100.pt"


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


def empty(path: Path) -> None:
    path.write_bytes(b"")


def flip_a_bit(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def lose_the_checksum(path: Path) -> None:
    path.with_suffix(".sha256").unlink()


DAMAGES = [truncate, empty, flip_a_bit, lose_the_checksum]


def test_what_was_saved_comes_back_and_the_last_two_are_kept(folder: Path) -> None:
    loaded, complaints = checkpoints.load_newest(folder)
    assert loaded is not None
    assert (loaded["step"], loaded["groups"], complaints) == (100, [{"lr": 0.1, "step": 1}], [])
    assert torch.equal(loaded["weights"], torch.full((3,), 100.0))
    assert names(folder) == [f"step-{step:09d}.{kind}" for step in (20, 100) for kind in ("pt", "sha256")]


def test_equal_states_have_equal_bytes_wherever_they_come_from(tmp_path: Path) -> None:
    """Loading makes new string objects, which pickle must not write in another way than the literals of a fresh run."""
    fresh = checkpoints.save(tmp_path / "fresh", 1, state(1))
    mixed = {**state(1), "groups": checkpoints.load(fresh)["groups"]}
    assert checkpoints.save(tmp_path / "mixed", 1, mixed).read_bytes() == fresh.read_bytes()


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_checkpoint_is_passed_over_with_a_complaint(folder: Path, damage) -> None:
    damage(newest(folder))
    loaded, complaints = checkpoints.load_newest(folder)
    assert loaded is not None
    assert loaded["step"] == 20
    assert len(complaints) == 1
    assert "step-000000100.pt is damaged" in complaints[0]


@pytest.mark.parametrize("damage", DAMAGES)
def test_rotation_never_leaves_a_damaged_checkpoint_in_place_of_a_good_one(tmp_path: Path, damage) -> None:
    """Good 10, damaged 30 and 40: a run that went on from 10 and saves 15 keeps 15 and 10."""
    for step in (10, 30):
        checkpoints.save(tmp_path, step, state(step))
    damage(tmp_path / "step-000000030.pt")
    (tmp_path / "step-000000040.pt").write_bytes(b"half")
    checkpoints.save(tmp_path, 15, state(15))
    assert names(tmp_path) == [f"step-{step:09d}.{kind}" for step in (10, 15) for kind in ("pt", "sha256")]


@pytest.mark.parametrize("damage", DAMAGES)
def test_an_older_good_one_is_kept_where_the_one_before_is_damaged(folder: Path, damage) -> None:
    damage(newest(folder))
    checkpoints.save(folder, 110, state(110))
    assert [path.name for path in sorted(folder.glob("*.pt"))] == ["step-000000020.pt", "step-000000110.pt"]


def test_what_killed_processes_left_is_swept_up(folder: Path) -> None:
    for name in (".step-000000110.pt.77.part", ".config.json.78.part", "step-000000050.sha256"):
        (folder / name).write_text("half")
    checkpoints.save(folder, 120, state(120))
    assert names(folder) == [f"step-{step:09d}.{kind}" for step in (100, 120) for kind in ("pt", "sha256")]


@pytest.mark.parametrize("damage", DAMAGES)
def test_if_all_are_damaged_one_line_says_so(folder: Path, damage) -> None:
    for path in folder.glob("*.pt"):
        damage(path)
    with pytest.raises(UserError, match=r"step-000000100\.pt is damaged") as caught:
        checkpoints.load_newest(folder)
    assert "\n" not in str(caught.value)


def test_a_folder_without_checkpoints_is_a_fresh_start(tmp_path: Path) -> None:
    (tmp_path / ".step-000000001.pt.17.part").write_bytes(b"half a checkpoint of a process that was killed")
    (tmp_path / "step-000000001.sha256").write_text("its checksum, which is written first")
    assert checkpoints.load_newest(tmp_path) == (None, [])


def test_a_missing_checkpoint_is_one_clear_line(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no checkpoint at .*train first"):
        checkpoints.load(tmp_path / "step-000000001.pt")


@pytest.mark.parametrize("when", ["fsync", "replace"])
def test_a_write_that_fails_leaves_the_older_checkpoints_and_no_rubbish(folder: Path, monkeypatch, when: str) -> None:
    def full_disk(*args: object) -> None:
        raise OSError(28, "No space left on device")

    before = names(folder)
    monkeypatch.setattr(*((os, "fsync") if when == "fsync" else (Path, "replace")), full_disk)
    with pytest.raises(UserError, match=r"cannot write .*No space left on device"):
        checkpoints.save(folder, 200, state(200))
    assert names(folder) == before
    assert checkpoints.load_newest(folder)[0]["step"] == 100


def test_the_checkpoint_appears_after_its_checksum_and_whole(tmp_path: Path, monkeypatch) -> None:
    """Killed between the two renames, a folder holds a checksum without a checkpoint, never the reverse."""
    order: list[str] = []
    replace = Path.replace
    monkeypatch.setattr(Path, "replace", lambda self, target: (order.append(Path(target).suffix), replace(self, target))[1])
    checkpoints.save(tmp_path, 1, state(1))
    assert order == [".sha256", ".pt"]
