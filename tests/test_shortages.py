"""A machine that runs short of something does not make an image a bad one."""

import errno
import os
import pickle
import resource
import subprocess
import sys

import pytest
from PIL import Image

from seed_hf.images import SeedImageError, load_image
from seed_hf.shortages import ShortageError
from tiny_sources import noise


@pytest.mark.skipif(sys.platform != "linux", reason="other systems do not limit the memory of a process")
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_too_little_memory_is_not_damage(tmp_path, kind):
    """Codecs report a lack of memory as damage; here each has too little for an image of 12 million pixels."""
    path = tmp_path / "a"
    Image.new("RGB", (4000, 3000), "red").save(path, kind, **({"progressive": True} if kind == "JPEG" else {}))
    code = """if True:
        import resource, sys
        from seed_hf.images import SeedImageError, load_image
        from seed_hf.shortages import ShortageError
        load_image(sys.argv[2])  # all that is needed is imported
        used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (used + (10 << 20), resource.RLIM_INFINITY))
        try:
            load_image(sys.argv[1])
        except (ShortageError, SeedImageError) as error:
            print(type(error).__name__, error)
    """
    Image.new("RGB", (4, 3)).save(tmp_path / "small", kind)
    command = [sys.executable, "-c", code, path, tmp_path / "small"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600)
    assert done.stdout.startswith("ShortageError") and "out of memory" in done.stdout, done


def test_too_many_open_files_are_not_damage(tmp_path):
    (tmp_path / "a.png").write_bytes(noise(0))
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    free = os.open(os.devnull, os.O_RDONLY)
    os.close(free)
    resource.setrlimit(resource.RLIMIT_NOFILE, (free, limits[1]))
    try:
        with pytest.raises(ShortageError, match="a.png: not read.*Too many open files.*may be sound"):
            load_image(tmp_path / "a.png")
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
    assert load_image(tmp_path / "a.png").size == (20, 16)


@pytest.mark.parametrize("number", [errno.EIO, errno.ENOMEM, errno.ESTALE, errno.ETIMEDOUT, errno.ENFILE])
def test_a_failing_disk_is_not_damage(monkeypatch, number):
    def fail(*arguments, **options):
        raise OSError(number, os.strerror(number))

    encoded = noise(0)
    for place in (Image, Image.Image):
        with monkeypatch.context() as patch:
            patch.setattr(place, "open" if place is Image else "load", fail)
            with pytest.raises(ShortageError, match=os.strerror(number)) as caught:
                load_image(encoded)
            assert pickle.loads(pickle.dumps(caught.value)).errno == number


def test_damage_stays_damage():
    with pytest.raises(SeedImageError, match="damaged or cut off"):
        load_image(noise(0)[:200])
