"""The pipelines over the stages; the same code runs on a cluster (compiled) and here (``pipelines.local``)."""

from pipelines.end_to_end import end_to_end
from pipelines.prepare import prepare
from pipelines.train import train

PIPELINES = {"prepare": prepare, "train": train, "end_to_end": end_to_end}
