"""Classes, guidelines and the frozen dataset: the sections ``labels`` and ``dataset``."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Annotated, ClassVar

from posewatch import rules
from posewatch.errors import ConfigError
from posewatch.names import nfc
from posewatch.rules import Items, Like, OneOf, Range, Share
from posewatch.sections import Section


@dataclass(frozen=True)
class ClassGuide(Section):
    """What the people who label should know of one class."""

    SECTION: ClassVar[str] = "labels.guide"

    text: Annotated[str, Like(r"(?s).{0,4000}", "a text of at most 4000 characters")] = ""
    """What belongs to the class and what does not, as plain text."""
    examples: tuple[rules.ClipId, ...] = ()
    """Ids of clips that show it."""


@dataclass(frozen=True)
class LabelConfig(Section):
    """The classes, and how timed intervals become one label per clip."""

    SECTION: ClassVar[str] = "labels"
    ADDED: ClassVar[tuple[str, ...]] = (
        "everybody",
        "raw_scene",
        "raw_alarms",
        "strange_first",
        "min_verdicts",
        "newest",
    )

    classes: Annotated[tuple[rules.ClassName, ...], Items(2, 1000, different=True)] = ("normal", "abnormal")
    positive: str = "abnormal"
    default: str = "normal"
    min_overlap_s: rules.Seconds = 0.5
    """An interval of another class than ``default`` labels a clip that it covers for this many seconds."""
    min_per_class: rules.Count = 2
    """Labelled clips per class that the gate of ``end_to_end`` waits for."""
    min_verdicts: Annotated[int, Range(1, 1_000_000)] = 50
    """Judged alarms that the served version has not learned from, for which ``refresh`` trains a new one."""
    newest: Annotated[float, Range(0, 0.95)] = 0.25
    """Share of those that ``refresh`` keeps to compare the new version with the served one: whole days of cameras, the
    newest."""
    timeout_s: rules.Seconds = 0.0
    """How long the gate polls; 0 fails at once."""
    double: Share = 0.0
    """Share of the clips that two people label, each without seeing the other's label."""
    random: Share = 0.1
    """Share of the queue in random order, whose labels evaluate a model without bias."""
    strange_first: bool = False
    """The queue first asks about clips that are like nothing the model knows (novelty above 1)."""
    claim_s: Annotated[float, Range(0, 604_800, above=True)] = 600.0
    """Seconds for which a claimed clip is reserved for the labeler."""
    page_size: Annotated[int, Range(1, 1000)] = 24
    """Clips on one page."""
    accept: Share = 0.95
    """Smallest confidence at which a model's labels are offered for acceptance in bulk."""
    sensitive: tuple[str, ...] = ()
    """Classes that are hard to look at; with any, the welfare mode is on by default."""
    everybody: bool = False
    """Of clips of single persons: a timed label that names no person labels all persons of its moment. Without it, such
    a label of another class than ``default`` is refused where there are several."""
    raw_scene: Annotated[str, OneOf(("nobody", "labeler", "reviewer", "admin"))] = "nobody"
    """The lowest role that may see the unmasked video around a clip of a person; each look is in the audit trail."""
    raw_alarms: Annotated[str, OneOf(("nobody", "operator", "reviewer", "admin"))] = "nobody"
    """The lowest role that may see the clip of an alarm as it was recorded; each look is in the audit trail."""
    guide: dict[rules.ClassName, ClassGuide] = field(default_factory=dict)
    """The guidelines: class → its text and examples, which the page shows."""

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "guide", {nfc(name): about for name, about in self.guide.items()})
        for key in ("classes", "sensitive", "positive", "default"):  # in one Unicode form, as label files are compared
            value = getattr(self, key)
            object.__setattr__(self, key, nfc(value) if isinstance(value, str) else tuple(map(nfc, value)))
        for name in self.classes:
            if name in rules.MARKS:
                raise ConfigError(f"labels.classes: {name!r} stands for no class, choose another name")
        chosen = {"default": [self.default], "positive": [self.positive] * bool(self.positive)}
        for key, names in {**chosen, "sensitive": self.sensitive, "guide": self.guide}.items():
            for name in names:
                if name not in self.classes:
                    raise ConfigError(f"labels.{key}: {name!r} is none of labels.classes: {', '.join(self.classes)}")


@dataclass(frozen=True)
class DatasetConfig(Section):
    """A frozen split by source video, or by groups of videos that show the same people, camera or event."""

    SECTION: ClassVar[str] = "dataset"
    ADDED: ClassVar[tuple[str, ...]] = ("group_pattern", "groups")

    validation: Annotated[float, Range(0, 0.95)] = 0.2
    test: Annotated[float, Range(0, 0.95)] = 0.3
    seed: rules.Seed = 0
    group_pattern: str = ""
    """A regular expression: videos in whose names it finds the same (or its parentheses do) are of one group."""
    groups: dict[str, str] = field(default_factory=dict)
    """Videos by name (with its folders or without), or by a pattern with * and ?, and the group of each; it goes before
    ``group_pattern``."""

    def __post_init__(self) -> None:
        super().__post_init__()
        try:
            re.compile(self.group_pattern)
        except re.error as error:
            told = f"dataset.group_pattern {self.group_pattern!r} is not a regular expression: {error}"
            raise ConfigError(told) from None
        if self.validation + self.test >= 1:
            shares = f"dataset.validation {self.validation:g} and dataset.test {self.test:g}"
            raise ConfigError(f"{shares} must leave a share for training")
