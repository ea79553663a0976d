from pathlib import Path

import pytest
import yaml

from posewatch.datasets import layouts
from posewatch.datasets.layouts import Layout
from posewatch.errors import ConfigError, InputError
from posewatch.recognition.evaluation.corruptions import body_parts


@pytest.mark.parametrize(
    ("name", "joints", "observed"),
    [
        *(("coco17", 17, 17), ("coco20", 20, 17), ("openpose18", 18, 18), ("kinect15", 15, 15)),
        *(("kinect20", 20, 20), ("ntu25", 25, 25), ("body25", 25, 25), ("mpi15", 15, 15), ("halpe26", 26, 26)),
        *(("h36m17", 17, 17), ("mpii16", 16, 16), ("crowdpose14", 14, 14), ("aic14", 14, 14), ("jhmdb15", 15, 15)),
        *(("posetrack17", 17, 17), ("blazepose33", 33, 33), ("smpl24", 24, 24), ("wholebody133", 133, 133)),
    ],
)
def test_builtin(name, joints, observed):
    layout = layouts.get(name)
    assert (len(layout.joints), layout.observed) == (joints, observed)
    assert len(layout.edges) == joints - 1, "a body is a tree"
    assert [layout.mirror[j] for j in layout.mirror] == list(range(joints))
    for left, right in layout.pairs:
        assert layout.joints[left].replace("left", "right") == layout.joints[right]
    assert layout.parents[layout.centre] == layout.centre
    up = list(range(joints))
    for _ in range(joints):
        up = [layout.parents[j] for j in up]
    assert set(up) == {layout.centre}, "every joint hangs on the centre"
    bones = {frozenset(edge) for edge in layout.edges}
    assert {frozenset((layout.mirror[a], layout.mirror[b])) for a, b in layout.edges} == bones, "a mirror image"
    assert {j for j, name in enumerate(layout.joints) if name.startswith(("left", "right"))} == {
        j for pair in layout.pairs for j in pair
    }
    assert len(body_parts(layout)) >= (5 if joints == 15 or "kinect" in name else 6)
    assert Layout.from_dict(layout.to_dict()) == layout


def test_bones_and_grandparents_of_coco():
    layout = layouts.get("coco17")
    assert layout.parents[9] == 7
    assert layout.grandparents[9] == 5
    assert layout.grandparents[5] == 5, "its parent is the root"


def test_unknown_name_is_told_the_nearest():
    with pytest.raises(ConfigError, match="did you mean 'coco17'"):
        layouts.get("coco-17")


def test_own_layout_by_name_or_number(tmp_path):
    own = {"name": "stick", "joints": ["head", "hip", "foot"], "edges": [["head", "hip"], [2, 1]], "centre": "hip"}
    path = tmp_path / "own.yaml"
    path.write_text(yaml.safe_dump(own))
    layout = layouts.from_yaml(path)
    assert layout.parents == (1, 1, 1)
    assert layout.edges == ((0, 1), (2, 1))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"edges": [[0, 7]]}, "joint 7 is not one of 0..2"),
        ({"edges": [["knee", "hip"]]}, "no joint 'knee'"),
        ({"joints": ["a", "a", "b"], "edges": [], "centre": 0}, "each name once"),
        ({"parents": [1, 2, 0]}, "circle"),
        ({"pairs": [[0, 1], [1, 2]]}, "two left/right pairs"),
        ({"edges": 3}, "lists of lists"),
    ],
)
def test_bad_layout(tmp_path, change, message):
    own = {"name": "stick", "joints": ["head", "hip", "foot"], "edges": [["head", "hip"]], "centre": "hip"} | change
    path = tmp_path / "own.yaml"
    path.write_text(yaml.safe_dump(own))
    with pytest.raises(InputError, match=message) as caught:
        layouts.from_yaml(path)
    assert "\n" not in str(caught.value)


def test_missing_file(tmp_path):
    with pytest.raises(InputError, match="cannot read"):
        layouts.from_yaml(tmp_path / "none.yaml")


@pytest.mark.parametrize(("key", "meant"), [("pair", "pairs"), ("center", "centre"), ("flip_indices", "known: name,")])
def test_a_misspelt_key_is_told(tmp_path: Path, key: str, meant: str) -> None:
    """A layout without ``pairs`` is a good one, so that nobody would notice that they were not read."""
    path = tmp_path / "own.yaml"
    path.write_text(f"name: x\njoints: [a, b, c]\nedges: [[b, a], [c, a]]\ncentre: a\n{key}: [[b, c]]\n")
    with pytest.raises(InputError, match=f"has no key '{key}'.*{meant}"):
        layouts.from_yaml(path)
