"""Files and folders are whole or not there, whatever their names and places are."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer
from tokenizers.models import WordLevel

from full_disks import room_for
from seed_hf.files import check_new_folder, disk_errors, whole_file, whole_folder


KILLED = """
import os, signal, sys
from pathlib import Path
from seed_hf.files import whole_folder
with whole_folder(Path(sys.argv[1])) as folder:
    (folder / "model").write_text("half")
    os.kill(os.getpid(), signal.SIGTERM)
"""


def written(path):
    with whole_folder(path) as folder:
        for name in ("config.json", "a", "z"):
            (folder / name).write_text(name)
        (folder / "part").mkdir()
        (folder / "part" / "b").write_text("b")
    return sorted(str(file.relative_to(path)) for file in path.rglob("*"))


def test_an_empty_folder_is_filled_and_not_replaced(tmp_path, monkeypatch):
    """A mount point and the target of a link cannot be replaced; a shell in a replaced folder is nowhere."""
    whole = ["a", "config.json", "part", "part/b", "z"]
    empty, link, here = tmp_path / "empty", tmp_path / "link", tmp_path / "here"
    empty.mkdir()
    here.mkdir()
    link.symlink_to(empty)
    inode = here.stat().st_ino
    monkeypatch.chdir(here)
    assert written(link) == whole and link.is_symlink() and len(list(empty.iterdir())) == 4
    assert written(Path(".")) == whole and os.stat(".").st_ino == here.stat().st_ino == inode
    (tmp_path / "nowhere").symlink_to(tmp_path / "later")
    assert written(tmp_path / "nowhere") == written(tmp_path / "new" / "folder") == whole
    assert sorted(path.name for path in tmp_path.iterdir()) == ["empty", "here", "later", "link", "new", "nowhere"]
    with pytest.raises(ValueError, match=r"link: this folder is not empty"):
        check_new_folder(link)


def test_a_folder_stays_empty_if_writing_fails(tmp_path):
    (tmp_path / "out").mkdir()
    for path in (tmp_path / "out", tmp_path / "new" / "out"):
        with pytest.raises(OSError, match="full"), whole_folder(path) as folder:
            (folder / "model").write_text("half")
            raise OSError("full")
    assert list(tmp_path.rglob("*")) == [tmp_path / "out"]
    with pytest.raises(ValueError, match="something else was written into this folder"):
        with whole_folder(tmp_path / "out") as folder:
            (folder / "model").write_text("whole")
            (tmp_path / "out" / "model").write_text("another")
    assert [file.read_text() for file in (tmp_path / "out").iterdir()] == ["another"]


@pytest.mark.parametrize("there", [True, False])
def test_what_a_killed_process_left_is_removed(tmp_path, there):
    out = tmp_path / "out"
    if there:
        out.mkdir()
    killed = subprocess.run([sys.executable, "-c", KILLED, str(out)])
    assert killed.returncode == -signal.SIGTERM and list(tmp_path.rglob("model"))
    living = next(tmp_path.rglob("model")).parent
    stranger = living.with_name(living.name.replace(".unfinished", ".other.unfinished"))
    (tmp_path / stranger.name).mkdir()  # not one of ours
    check_new_folder(out)
    assert written(out) == ["a", "config.json", "part", "part/b", "z"]
    assert sorted(tmp_path.iterdir()) == [tmp_path / stranger.name, out]


def test_a_running_process_keeps_its_folder(tmp_path):
    (tmp_path / "out").mkdir()
    program = KILLED.replace("os.kill(os.getpid(), signal.SIGTERM)", "print(flush=True); sys.stdin.read()")
    run = [sys.executable, "-c", program, str(tmp_path / "out")]
    with subprocess.Popen(run, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        process.stdout.readline()
        with pytest.raises(ValueError, match="not empty"):
            check_new_folder(tmp_path / "out")
        process.stdin.close()
    assert process.returncode == 0 and [file.name for file in (tmp_path / "out").iterdir()] == ["model"]


def test_what_no_room_makes_of_a_write(tmp_path):
    """Each library has an exception of its own for it; other errors stay what they are."""
    words = Tokenizer(WordLevel({f"word {number}": number for number in range(1000)}, unk_token="word 0"))
    weights = {"a": torch.zeros(10_000)}
    for write in (
        lambda path: path.write_bytes(bytes(20_000)),
        lambda path: save_file(weights, path),
        lambda path: torch.save(weights, path),
        lambda path: words.save(str(path)),
    ):
        with room_for(10_000), pytest.raises(OSError, match=f"while writing into {tmp_path}. It stays. Free some"):
            with disk_errors(tmp_path, "It stays."):
                write(tmp_path / "file")
    for error in (ValueError("a"), RuntimeError("b"), KeyboardInterrupt()):
        with pytest.raises(type(error)), disk_errors(tmp_path):
            raise error


def test_any_valid_name_will_do(tmp_path):
    for name in ("\u00e4" * 125 + ".png", "a" * 255, "\udce9" * 120, "short"):
        with whole_file(tmp_path / name) as temporary:
            temporary.write_text("x")
        assert (tmp_path / name).read_text() == "x"
        assert written(tmp_path / "folders" / name)
    assert len(list(tmp_path.iterdir())) == 5
