"""Sends an image to the trackers that `report_to` names. transformers sends them numbers alone."""

from __future__ import annotations

import importlib
import logging
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
from PIL import Image
from transformers import TrainerCallback


logger = logging.getLogger(__name__)
_told: set[str] = set()


def send_image(callbacks: Iterable[TrainerCallback], name: str, image: Image.Image, step: int) -> None:
    """Send an image to every tracker among the callbacks of a trainer. What goes wrong there is logged and no error.

    Args:
        callbacks: Of the trainer; those of transformers' trackers are known by the name of their class.
        name: What the tracker calls it.
        image: RGB.
        step: Of the training.
    """
    for callback in callbacks:
        tracker = type(callback).__name__.removesuffix("Callback")
        if tracker in _WITHOUT and tracker not in _told:
            _told.add(tracker)
            logger.warning("Images are not sent to %s. They are in the folder %s of output_dir.", tracker, name)
        if (send := _SENDERS.get(tracker)) is not None:
            try:
                send(callback, name, image, step)
            except Exception as error:  # a tracker may raise anything, when its server is away for instance
                logger.warning("The image was not sent to %s: %s", tracker, error)


def _tensorboard(callback: Any, name: str, image: Image.Image, step: int) -> None:
    if callback.tb_writer is not None:
        callback.tb_writer.add_image(name, np.asarray(image), step, dataformats="HWC")
        callback.tb_writer.flush()


def _wandb(callback: Any, name: str, image: Image.Image, step: int) -> None:
    wandb = importlib.import_module("wandb")
    if wandb.run is not None:  # transformers tells it that the steps are in this key
        wandb.log({name: wandb.Image(image), "train/global_step": step})


def _mlflow(callback: Any, name: str, image: Image.Image, step: int) -> None:
    mlflow = importlib.import_module("mlflow")
    if mlflow.active_run() is not None:
        mlflow.log_image(image, key=name, step=step)


def _comet(callback: Any, name: str, image: Image.Image, step: int) -> None:
    experiment = importlib.import_module("comet_ml").get_running_experiment()
    if experiment is not None:
        experiment.log_image(image, name=name, step=step)


def _clearml(callback: Any, name: str, image: Image.Image, step: int) -> None:
    task = importlib.import_module("clearml").Task.current_task()
    if task is not None:
        task.get_logger().report_image(name, name, iteration=step, image=np.asarray(image))


def _of_log(package: str) -> Callable[[Any, str, Image.Image, int], None]:
    """A tracker with `log` and `Image`, like wandb, that takes the step as an argument."""

    def send(callback: Any, name: str, image: Image.Image, step: int) -> None:
        module = importlib.import_module(package)
        module.log({name: module.Image(image)}, step=step)

    return send


def _dvclive(callback: Any, name: str, image: Image.Image, step: int) -> None:
    if callback.live is not None:
        callback.live.log_image(f"{name}-{step:07d}.png", image)


_SENDERS: dict[str, Callable[[Any, str, Image.Image, int], None]] = {
    "TensorBoard": _tensorboard,
    "Wandb": _wandb,
    "MLflow": _mlflow,
    "DagsHub": _mlflow,
    "Comet": _comet,
    "ClearML": _clearml,
    "Trackio": _of_log("trackio"),
    "SwanLab": _of_log("swanlab"),
    "DVCLive": _dvclive,
}
_WITHOUT = ("AzureML", "CodeCarbon", "Flyte", "Kubeflow", "Neptune")
