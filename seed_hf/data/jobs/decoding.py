"""Images decoded and resized by worker processes, in order; a worker that dies is replaced."""

from __future__ import annotations

import errno
import logging
import multiprocessing
import warnings
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from seed_hf.data.sources.filters import RowFilters
from seed_hf.data.sources.fingerprint import content_digest
from seed_hf.data.sources.row_checks import judge_image
from seed_hf.data.sources.source_row import Rejection
from seed_hf.shortages import ShortageError, check_shortage

from .worker_process import ProcessDied, call_in_a_process, end_with_parent, limit_time


logger = logging.getLogger(__name__)
# From encoded images to pixels, and for each image why it was rejected
Decoder = Callable[[list], tuple[np.ndarray, list["Rejection | None"]]]
_decoder: Decoder  # of a worker process


@dataclass(frozen=True)
class ImageDecoder:
    """Encoded images to pixels of the model's size, as `SeedImageProcessor` makes them before normalising.

    Args:
        height, width: In pixels.
        resample: Pillow's number of the interpolation.
        filters: Rows to leave out by their size.
        seconds: How long a worker process may compute on one image before it is ended. What decoding takes is limited
            by counting; this is the last line.
    """

    height: int
    width: int
    resample: int
    filters: RowFilters
    seconds: float = 60

    def __call__(self, images: list[bytes | str | Rejection | None]) -> tuple[np.ndarray, list[Rejection | None]]:
        """Decode images.

        Args:
            images: Encoded images or paths; in place of one, why its row is bad.

        Returns:
            The pixels of the good images, uint8 `(good, 3, height, width)`, and for each image why it was rejected,
            or `None` if it is good.
        """
        pixels: list[np.ndarray] = []
        rejections: list[Rejection | None] = []
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow's, about odd but readable files
            for encoded in images:
                limit_time(self.seconds)
                decoded = self.decode(encoded)
                if isinstance(decoded, Rejection):
                    rejections.append(decoded)
                else:
                    rejections.append(None)
                    pixels.append(decoded)
        limit_time(0)
        shape = (0, 3, self.height, self.width)
        return np.stack(pixels) if pixels else np.zeros(shape, dtype=np.uint8), rejections

    def decode(self, encoded: bytes | str | Rejection | None) -> np.ndarray | Rejection:
        """The pixels of one image, uint8 `(3, height, width)`, or why it was rejected."""
        image = judge_image(encoded, self.filters)
        if isinstance(image, Rejection):
            return image
        return np.asarray(image.resize((self.width, self.height), self.resample)).transpose(2, 0, 1)


def no_images(rows: list[bytes | str | Rejection | None]) -> tuple[np.ndarray, list[Rejection | None]]:
    """In place of an [`ImageDecoder`] for rows without images: no pixels, and why rows were rejected before."""
    rejections = [row if isinstance(row, Rejection) else None for row in rows]
    return np.zeros((rejections.count(None), 0), dtype=np.uint8), rejections


class Decoded(NamedTuple):
    """What became of some images.

    Args:
        pixels: Of the good ones, uint8 `(good, 3, height, width)`.
        rejections: For each image why it was rejected, or `None` if it is good.
        digests: For each image the digest of its content.
    """

    pixels: np.ndarray
    rejections: list[Rejection | None]
    digests: list[bytes]


class DecodingPool:
    """Worker processes for an `ImageDecoder`; a context manager.

    Workers are fresh interpreters that import neither torch nor transformers, share no lock or device with this
    process, and end with it, however it ends. When one dies, its images are decoded again in a process of their own,
    piece by piece if it crashes. Only an image that crashes a process each time counts as bad. What is killed from
    outside each time, or finds the machine short of memory or open files, ends the job: the image may be sound.

    Args:
        decoder: What the workers run.
        workers: Number of processes; 0 decodes in this one.

    Raises:
        RuntimeError: The processes do not start.
        ChildProcessError: They are killed while they start.
    """

    def __init__(self, decoder: Decoder, workers: int):
        self._decoder = decoder
        self.workers = workers
        self._pool: ProcessPoolExecutor | None = None

    def __enter__(self) -> DecodingPool:
        if self.workers:
            self._pool = self._new_pool()
            try:
                self._pool.submit(_decode, []).result()
            except BrokenProcessPool:
                self._close()
                self._check_start()
                self._pool = self._new_pool()
            except BaseException:
                self._close()
                raise
        return self

    def __exit__(self, *exception) -> None:
        self._close()

    def map(self, tasks: Iterable[tuple[Any, list]]) -> Iterator[tuple[Any, Decoded]]:
        """Decode tasks, a few at once; the next are taken from `tasks` as earlier ones finish.

        Args:
            tasks: Pairs of a key and encoded images; messages name images by the key.

        Returns:
            For each task its key and what became of its images, in the order of the tasks.

        Raises:
            ShortageError: The machine is short of memory, open files or the like.
            ChildProcessError: The processes are killed from outside.
        """
        waiting: deque[tuple[Any, list, Future]] = deque()
        tasks = iter(tasks)
        more = True
        while more or waiting:
            while more and len(waiting) < max(1, 3 * self.workers):
                task = next(tasks, None)
                if task is None:
                    more = False
                else:
                    waiting.append((*task, self._submit(task[1])))
            if not waiting:
                return
            key, images, future = waiting.popleft()
            try:
                result = future.result()
            except ShortageError as error:
                logger.warning("%s: %s; decoded once more.", key, error.strerror)
                result = self._decode_again(key, images)
            except BrokenProcessPool:
                logger.warning("%s: a process that decodes images died; decoded once more.", key)
                self._close()
                result = self._decode_again(key, images)
                self._pool = self._new_pool()
                waiting = deque((key, images, self._submit(images)) for key, images, _ in waiting)
            yield key, result

    def _check_start(self) -> None:
        try:
            call_in_a_process(_decoded, self._decoder, [])
        except ProcessDied as error:
            if error.killed:
                raise _killed(error) from error
            raise RuntimeError(
                "The worker processes that decode images do not start. In a script of your own, call this under "
                "`if __name__ == '__main__':`; or decode without processes (workers=0)."
            ) from error

    def _submit(self, images: list) -> Future:
        if images and self.workers:
            assert self._pool is not None  # inside `with`
            try:
                return self._pool.submit(_decode, images)
            except BrokenProcessPool as error:
                return _done(error)
        try:
            return _done(_decoded(self._decoder, images))
        except ShortageError as error:
            return _done(error)

    def _decode_again(self, key, images: list) -> Decoded:
        try:
            return self._decode_alone(images)
        except (ShortageError, MemoryError) as error:
            lack = getattr(error, "strerror", None) or "out of memory"
            raise ShortageError(getattr(error, "errno", errno.ENOMEM), f"{key}: {lack}") from error
        except ProcessDied as error:
            raise _killed(error, f"{key}: ") from error

    def _decode_alone(self, images: list) -> Decoded:
        """Decode images in a process of their own, a second time if need be; if it crashes, each half of them."""
        if not images:
            return _decoded(self._decoder, images)
        try:
            return self._decode_once(images)
        except ProcessDied as error:
            if error.crashed and len(images) > 1:
                return self._decode_halves(images)
        except (ShortageError, MemoryError):
            pass
        try:
            return self._decode_once(images)
        except ProcessDied as error:
            if not error.crashed:
                raise
            if len(images) > 1:
                return self._decode_halves(images)
            rejection = Rejection(True, f"the process that decoded it died each time ({error})")
            return Decoded(_decoded(self._decoder, []).pixels, [rejection], [content_digest(images[0])])

    def _decode_once(self, images: list) -> Decoded:
        if not self.workers:
            return _decoded(self._decoder, images)
        return call_in_a_process(_decoded, self._decoder, images)

    def _decode_halves(self, images: list) -> Decoded:
        middle = len(images) // 2
        first, second = self._decode_alone(images[:middle]), self._decode_alone(images[middle:])
        return Decoded(
            np.concatenate([first.pixels, second.pixels]),
            first.rejections + second.rejections,
            first.digests + second.digests,
        )

    def _new_pool(self) -> ProcessPoolExecutor:
        # Fresh processes: forked ones would inherit the job's lock, the threads' locks and the device.
        context = multiprocessing.get_context("spawn")
        return ProcessPoolExecutor(self.workers, mp_context=context, initializer=_start, initargs=(self._decoder,))

    def _close(self) -> None:
        if self._pool is None:
            return
        # Where starting one has failed, the pool does not end those that have started, and they would wait for ever.
        started = list((getattr(self._pool, "_processes", None) or {}).values())
        self._pool.shutdown(wait=True, cancel_futures=True)
        self._pool = None
        for process in started:
            process.kill()
            process.join()


def _start(decoder: Decoder) -> None:
    global _decoder
    _decoder = decoder
    end_with_parent()


def _decode(images: list) -> Decoded:
    return _decoded(_decoder, images)


def _decoded(decoder: Decoder, images: list) -> Decoded:
    try:
        digests = [content_digest(image) for image in images]
        return Decoded(*decoder(images), digests)
    except (MemoryError, OSError) as error:
        check_shortage(error, "images")
        raise


def _killed(died: ProcessDied, where: str = "") -> ChildProcessError:
    return ChildProcessError(
        f"{where}the process that decodes images was {died} each time; this machine may be short of memory. Finished "
        "shards stay. Free some memory or use fewer workers, then run the same command again."
    )


def _done(result: Decoded | Exception) -> Future:
    future: Future = Future()
    if isinstance(result, Exception):
        future.set_exception(result)
    else:
        future.set_result(result)
    return future
