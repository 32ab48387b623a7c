"""Images decoded and resized by worker processes, in order; a worker that dies is replaced."""

from __future__ import annotations

import logging
import multiprocessing
import os
import threading
import warnings
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from typing import Any

import numpy as np

from seed_hf.data.sources.filters import RowFilters
from seed_hf.data.sources.judging import judge_image
from seed_hf.data.sources.source_row import Rejection


logger = logging.getLogger(__name__)
_TRIES = 2  # for an image whose worker dies; then it counts as bad
_decoder: ImageDecoder  # of a worker process


@dataclass(frozen=True)
class ImageDecoder:
    """Encoded images to pixels of the model's size, as `SeedImageProcessor` makes them before normalising.

    Args:
        height, width: In pixels.
        resample: Pillow's number of the interpolation.
        filters: Rows to leave out by their size.
    """

    height: int
    width: int
    resample: int
    filters: RowFilters

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
                image = judge_image(encoded, self.filters)
                if isinstance(image, Rejection):
                    rejections.append(image)
                    continue
                rejections.append(None)
                resized = image.resize((self.width, self.height), self.resample)
                pixels.append(np.asarray(resized).transpose(2, 0, 1))
        shape = (0, 3, self.height, self.width)
        return np.stack(pixels) if pixels else np.zeros(shape, dtype=np.uint8), rejections


class DecodingPool:
    """Worker processes for an `ImageDecoder`; a context manager.

    Workers are fresh interpreters that import neither torch nor transformers, share no lock or device with this
    process, and end with it, however it ends. When one dies (out of memory, a crash in a codec), its images are
    decoded again, piece by piece. Only an image whose worker dies each time counts as bad.

    Args:
        decoder: What the workers run.
        workers: Number of processes; 0 decodes in this one.

    Raises:
        RuntimeError: The processes do not start.
    """

    def __init__(self, decoder: ImageDecoder, workers: int):
        self._decoder = decoder
        self.workers = workers
        self._pool: ProcessPoolExecutor | None = None

    def __enter__(self) -> DecodingPool:
        if self.workers:
            self._pool = self._new_pool(self.workers)
            try:
                self._pool.submit(_decode, []).result()
            except BrokenProcessPool as error:
                self._close()
                raise RuntimeError(
                    "The worker processes that decode images do not start. In a script of your own, call this under "
                    "`if __name__ == '__main__':`; or decode without processes (workers=0)."
                ) from error
        return self

    def __exit__(self, *exception) -> None:
        self._close()

    def map(self, tasks: Iterable[tuple[Any, list]]) -> Iterator[tuple[Any, np.ndarray, list[Rejection | None]]]:
        """Decode tasks, a few at once; the next are taken from `tasks` as earlier ones finish.

        Args:
            tasks: Pairs of a key and encoded images.

        Returns:
            For each task its key and what the decoder returns, in the order of the tasks.
        """
        if not self.workers:
            for key, images in tasks:
                yield key, *self._decoder(images)
            return
        waiting: deque[tuple[Any, list, Future]] = deque()
        tasks = iter(tasks)
        more = True
        while more or waiting:
            while more and len(waiting) < 3 * self.workers:
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
            except BrokenProcessPool:
                logger.warning("A process that decodes images died; its images are decoded again.")
                self._close()
                result = self._decode_alone(images)
                self._pool = self._new_pool(self.workers)
                waiting = deque((key, images, self._submit(images)) for key, images, _ in waiting)
            yield key, *result

    def _submit(self, images: list) -> Future:
        assert self._pool is not None  # inside `with`
        try:
            return self._pool.submit(_decode, images)
        except BrokenProcessPool as error:
            broken: Future = Future()
            broken.set_exception(error)
            return broken

    def _decode_alone(self, images: list) -> tuple[np.ndarray, list[Rejection | None]]:
        """Decode images in a process of their own; if it dies, each half of them."""
        for _ in range(_TRIES if len(images) == 1 else 1):
            with self._new_pool(1) as pool:
                try:
                    return pool.submit(_decode, images).result()
                except BrokenProcessPool:
                    pass
        if len(images) == 1:
            empty, _ = self._decoder([])
            return empty, [Rejection(True, "the process that decoded it died each time")]
        middle = len(images) // 2
        (first, rejections), (second, more) = self._decode_alone(images[:middle]), self._decode_alone(images[middle:])
        return np.concatenate([first, second]), rejections + more

    def _new_pool(self, workers: int) -> ProcessPoolExecutor:
        # Fresh processes: forked ones would inherit the job's lock, the threads' locks and the device.
        context = multiprocessing.get_context("spawn")
        return ProcessPoolExecutor(workers, mp_context=context, initializer=_start, initargs=(self._decoder,))

    def _close(self) -> None:
        if self._pool is not None:
            self._pool.shutdown(wait=True, cancel_futures=True)
            self._pool = None


def _start(decoder: ImageDecoder) -> None:
    global _decoder
    _decoder = decoder
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    # A killed parent cannot stop its workers, and the queue that they wait on never closes: they hold both its ends.
    parent = multiprocessing.parent_process()
    assert parent is not None  # only workers come here
    parent.join()
    os._exit(1)


def _decode(images: list) -> tuple[np.ndarray, list[Rejection | None]]:
    return _decoder(images)
