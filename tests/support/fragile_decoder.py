"""A decoder that fails at some images. Worker processes import this file, so it imports little."""

import errno
import os
import signal
from dataclasses import dataclass

from seed_hf.data.jobs.decoding import ImageDecoder


@dataclass(frozen=True)
class FragileDecoder(ImageDecoder):
    """Ends its process at b"poison" and b"crash", as a codec with a bug would, and at b"killed" as the kernel would.

    b"memory" and b"disk" fail as on a machine that is short of them; b"endless" never ends.
    """

    def __call__(self, images):
        if b"poison" in images:
            os._exit(1)
        for image, number in ((b"crash", signal.SIGSEGV), (b"killed", signal.SIGKILL)):
            if image in images:
                os.kill(os.getpid(), number)
        if b"memory" in images:
            raise MemoryError
        if b"disk" in images:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return super().__call__(images)

    def decode(self, encoded):
        while encoded == b"endless":
            pass
        return super().decode(encoded)


@dataclass(frozen=True)
class DyingAtStart(ImageDecoder):
    """Its process is killed as soon as it gets the decoder, until so many have been."""

    folder: str = ""
    lives: int = 0

    def __setstate__(self, state):
        self.__dict__.update(state)
        if len(os.listdir(self.folder)) < self.lives:
            open(os.path.join(self.folder, str(os.getpid())), "w").close()
            os.kill(os.getpid(), signal.SIGKILL)
