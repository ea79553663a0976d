"""One experiment = one YAML file: frozen dataclasses, inheritance by ``extends:``, overrides as ``section.key=value``.

``load("demo")`` takes a name from the package's ``configs/``; a path to a YAML file and a JSON text (what a pipeline
hands to its components) work alike. An unknown key is an error that names the nearest known one, and every value is
checked against the rules beside its field before anybody labels or trains.
"""

from posewatch.config.experiment import Experiment, load, names
from posewatch.config.labels import ClassGuide, DatasetConfig, LabelConfig
from posewatch.config.perception import MaskConfig, PoseConfig, SplitConfig
from posewatch.config.serving import ServingConfig
from posewatch.config.training import AugmentConfig, PretrainConfig, RobustnessConfig, TrainConfig, TrainerConfig

__all__ = [
    "AugmentConfig",
    "ClassGuide",
    "DatasetConfig",
    "Experiment",
    "LabelConfig",
    "MaskConfig",
    "PoseConfig",
    "PretrainConfig",
    "RobustnessConfig",
    "ServingConfig",
    "SplitConfig",
    "TrainConfig",
    "TrainerConfig",
    "load",
    "names",
]
