"""How large and how long the measurement is: a GPU's, and a dry run's on a CPU."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Scale:
    """``width`` is a multiple of the published channels, ``seconds`` the length of one measurement.

    ``compiled`` are the batch sizes that torch.compile is measured at (each compiles anew), ``clients`` the numbers of
    clients of the closed loop, ``budget_s`` the time of the whole run: what no longer fits is left out and named.
    """

    width: float = 1.0
    frames: int = 100
    layouts: tuple[str, ...] = ("coco17", "coco20")
    people: tuple[int, ...] = (1, 2)
    batches: tuple[int, ...] = (1, 4, 16, 64, 256)
    compiled: tuple[int, ...] = (1, 64)
    seconds: float = 0.5
    peak_side: int = 8192
    clients: tuple[int, ...] = (1, 16, 64, 256)
    client_processes: int = 8
    load_seconds: float = 3.0
    lead_s: float = 3.0
    max_batch: int = 128
    queue_delay_us: int = 1000
    train_batches: tuple[int, ...] = (16, 128)
    train_epochs: int = 6
    train_clips: int = 1024
    picture: tuple[int, int] = (720, 1280)
    pictures: tuple[int, ...] = (1, 16)
    yolo: tuple[str, ...] = ("yolo11n", "yolo11m")
    segmenters: tuple[str, ...] = ("sam2.1-tiny", "sam2.1-small", "edgetam")
    persons: int = 3
    budget_s: float = 450.0


FULL = Scale()
DRY = Scale(
    width=0.085,
    frames=16,
    layouts=("coco17",),
    people=(1, 2),
    batches=(1, 4),
    compiled=(),
    seconds=0.02,
    peak_side=256,
    clients=(1, 4),
    client_processes=1,
    load_seconds=0.3,
    lead_s=0.8,
    max_batch=8,
    train_batches=(4,),
    train_epochs=1,
    train_clips=16,
    picture=(96, 128),
    pictures=(1, 2),
    yolo=("yolo11n",),
    segmenters=("tiny",),
    persons=2,
    budget_s=36_000.0,
)
