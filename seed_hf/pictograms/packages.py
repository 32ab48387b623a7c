"""Fetching and unpacking npm and Debian packages by their ordinary clients. Nothing in a package is run."""

from __future__ import annotations

import logging
import os
import shutil
import subprocess
import tarfile
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


logger = logging.getLogger(__name__)


class PackageError(RuntimeError):
    """A package, or the client that fetches it, is missing. The message is one line and says how to get it."""


def fetch_npm(name: str, version: str, folder: Path) -> Path:
    """Download and unpack one npm package.

    Args:
        name: The package with its scope: "@iconify-json/noto".
        version: The exact version.
        folder: Folder for unpacked packages. A package that is there is not fetched again.

    Returns:
        The folder with the package's files.

    Raises:
        PackageError: npm is not installed, or it did not deliver this version.
    """
    target = folder / f"{name.removeprefix('@').replace('/', '-')}-{version}"
    if target.is_dir():
        return target
    spec = f"{name}@{version}"
    npm = _client("npm", f"npm package {spec}", "install Node.js with npm")
    with _workshop(folder) as workshop:
        logger.info("fetching npm package %s", spec)
        _run([npm, "pack", spec, "--silent", "--ignore-scripts"], workshop, f"npm package {spec}")
        archives = list(workshop.glob("*.tgz"))
        if len(archives) != 1:
            raise PackageError(f"npm delivered {len(archives)} archives for {spec}; try `npm pack {spec}` by hand")
        with tarfile.open(archives[0]) as archive:
            archive.extractall(workshop / "unpacked", filter="data")
        (content,) = (workshop / "unpacked").iterdir()  # npm puts everything into one folder, "package" by custom
        os.replace(content, target)
    return target


def fetch_debian(name: str, folder: Path) -> Path:
    """Download and unpack one Debian package, without installing it.

    Args:
        name: The package: "openclipart-svg". apt chooses the version.
        folder: Folder for unpacked packages. A package that is there is not fetched again.

    Returns:
        The folder with the package's files; its version is in the file `VERSION`.

    Raises:
        PackageError: apt-get or dpkg-deb is not installed, or the package could not be fetched.
    """
    target = folder / f"debian-{name}"
    if target.is_dir():
        return target
    what = f"Debian package {name}"
    apt = _client("apt-get", what, "build on Debian or Ubuntu, or leave the clip art out")
    dpkg = _client("dpkg-deb", what, "build on Debian or Ubuntu, or leave the clip art out")
    with _workshop(folder) as workshop:
        logger.info("fetching %s", what)
        _run([apt, "download", name], workshop, what, hint="run `apt-get update` first, or leave the clip art out")
        archives = list(workshop.glob("*.deb"))
        if len(archives) != 1:
            raise PackageError(f"apt-get delivered {len(archives)} archives for {name}, not one")
        content = workshop / "unpacked"
        _run([dpkg, "-x", str(archives[0]), str(content)], workshop, what)
        version = _run([dpkg, "-f", str(archives[0]), "Version"], workshop, what)
        (content / "VERSION").write_text(version.strip() + "\n", encoding="utf-8")
        os.replace(content, target)
    return target


def _client(program: str, what: str, how: str) -> str:
    path = shutil.which(program)
    if path is None:
        raise PackageError(f"{program} is needed for {what} and is not installed; {how}")
    return path


@contextmanager
def _workshop(folder: Path) -> Iterator[Path]:
    """A temporary folder inside `folder`: on the same disk, so that finished content can be renamed into place."""
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".fetching-", dir=folder) as scratch:
        yield Path(scratch)


def _run(command: list[str], cwd: Path, what: str, hint: str = "check the network and the name") -> str:
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    if done.returncode != 0:
        lines = (done.stderr or done.stdout).strip().splitlines()
        reason = next((line for line in lines if "E:" in line or "error" in line.lower()), lines[-1] if lines else "")
        raise PackageError(f"{what} could not be fetched: `{Path(command[0]).name}` said {reason.strip()!r}; {hint}")
    return done.stdout
