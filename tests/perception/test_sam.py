"""SAM 2 three ways (transformers, Meta's package, Ultralytics): the real classes at small sizes under one test."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from doubles import FixedNetwork
from perception import networks
from pictures import picture, square

from posewatch.config import MaskConfig
from posewatch.errors import WeightsError
from posewatch.perception.masking import mask_frames
from posewatch.perception.networks import build_segmenter, weights_of
from posewatch.perception.networks.boxes import BoxSegmenter
from posewatch.perception.networks.prompted import PromptedSegmenter
from posewatch.perception.ports import Segmenter
from posewatch.records import Detections

# the vendors' own code warns about versions of others
pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::UserWarning"),
]
WAYS = ("sam2", "sam2-package", "sam2-ultralytics")
FIRST, SECOND = [20, 20, 120, 140], [150, 30, 220, 150]


def need(way: str) -> None:
    package, how = {
        "sam2": ("transformers", "install the extra sam2"),
        "sam2-package": ("sam2", "make setup installs Meta's package"),
        "sam2-ultralytics": ("ultralytics", "install the extra yolo"),
    }[way]
    pytest.importorskip(package, reason=how)
    from posewatch.perception.networks.pytorch import need_torchvision

    need_torchvision()


@pytest.fixture(scope="module", params=WAYS)
def file(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """(way, weights) at random weights."""
    need(request.param)
    folder = tmp_path_factory.mktemp(request.param)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("YOLO_CONFIG_DIR", str(folder))
        if request.param == "sam2":
            yield request.param, str(networks.sam2(folder))
        elif request.param == "sam2-package":
            yield request.param, str(networks.sam2_package(folder / "sam2.1_hiera_tiny.pt"))
        else:
            from posewatch.perception.networks.sam_ultralytics import UltralyticsSamSegmenter

            patch.setattr(UltralyticsSamSegmenter.__init__, "__defaults__", ("auto", 256))  # a quarter of the side
            yield request.param, str(networks.sam2_ultralytics(folder / "sam2.1_b.pt", patch))


def built(file: tuple[str, str], **more: int) -> tuple[MaskConfig, Segmenter]:
    config = MaskConfig(segmenter=file[0], segmenter_weights=file[1], device="cpu", fps=5, **more)
    return config, build_segmenter(config)


def persons(boxes: list[list[int]], ids: list[int] | None) -> Detections:
    numbers = None if ids is None else np.array(ids, np.int64)
    return Detections(np.array(boxes, np.float32).reshape(-1, 4), np.ones(len(boxes), np.float32), None, numbers)


def images_held(segmenter: Segmenter) -> int:
    """Values of images in the memory."""
    if isinstance(state := getattr(segmenter, "_state", None), dict):
        return sum(image.numel() for image in state.get("images", {}).values())
    session = getattr(segmenter, "_session", None)
    return 0 if session is None else sum(image.numel() for image in session.processed_frames.values())


def test_boxes_prompt_masks_of_one_kind(file: tuple[str, str]) -> None:
    config, segmenter = built(file, reprompt=3)
    image = picture(0.5, 240, 160)
    around = BoxSegmenter().segment(image, persons([[0, 0, 140, 160], [136, 6, 234, 160]], None))

    def run() -> list[np.ndarray]:
        segmenter.begin()
        assert segmenter.recall([7, 9]) == {}
        return [segmenter.segment(image, persons([], [])), segmenter.segment(image, persons([FIRST, SECOND], [7, 9]))]

    masks = run()
    again = run()
    assert all(np.array_equal(a, b) for a, b in zip(masks, again, strict=True))
    masks += [segmenter.segment(image, persons([SECOND, FIRST], [9, 7])) for _ in range(2)]
    assert [m.shape for m in masks] == [(n, 160, 240) for n in (0, 2, 2, 2)]
    assert all(m.dtype == bool and m.any((1, 2)).all() for m in masks)
    for first, second in ((masks[1][0], masks[1][1]), (masks[3][1], masks[3][0])):  # in the order of the boxes
        assert not (first & ~around[0]).any()
        assert not (second & ~around[1]).any()
    assert images_held(segmenter) <= 3 * 256 * 256  # one frame, however many there were
    lost = segmenter.segment(image, persons([SECOND], [9]))
    assert lost.shape == (1, 160, 240)
    recalled = segmenter.recall([7, 11])
    assert set(recalled) == ({7} if isinstance(segmenter, PromptedSegmenter) else set())  # Ultralytics' has no memory
    assert all(mask.shape == (160, 240) and mask.dtype == bool for mask in recalled.values())
    segmenter.begin()
    assert (segmenter.recall([7, 9]), images_held(segmenter)) == ({}, 0)
    assert segmenter.segment(image, persons([FIRST, SECOND], None)).shape == (2, 160, 240)
    name = Path(file[1]).name
    assert set(weights_of(config)) == {"movenet", name} == set(segmenter.weights) | {"movenet"}


def test_a_person_who_is_lost_for_a_moment_is_shown_on(file: tuple[str, str], make: Any) -> None:
    """By the memory, or by the mask of the frame before."""
    config, segmenter = built(file, hold=3)
    frames = iter(range(100))

    def find(image: np.ndarray) -> Detections:
        return Detections.none(17) if next(frames) in (3, 4) else square(image)

    shown = list(mask_frames(make(seconds=1.4, fps=5), config, detector=FixedNetwork(find), segmenter=segmenter))
    assert [len(frame.persons) for frame in shown] == [1, 1, 1, 0, 0, 1, 1]
    if isinstance(segmenter, PromptedSegmenter):
        assert set(segmenter._masks) == {0}
    else:
        assert all(frame.visible.any() for frame in shown)


def whole(segmenter: Any, images: list[np.ndarray], box: np.ndarray, corrected: int) -> None:
    """The same by the network's own means, on a video all of whose frames are known from the beginning."""
    if segmenter.name == "sam2":
        pixels = segmenter._torch.cat([segmenter._pixels(image) for image in images])
        height, width = images[0].shape[:2]
        session = segmenter._session_class(pixels, height, width, dtype=pixels.dtype)
        segmenter._session = session
        for segmenter.frame, image in enumerate(images):
            for prompted in (segmenter.frame == 0, segmenter.frame == corrected):
                if prompted:
                    segmenter._add(image, [1], box)
                if prompted or segmenter.frame not in session.frames_tracked_per_obj[0]:
                    segmenter._run(image)
        return
    net, state = segmenter._net, segmenter._empty(images[0])
    state |= {"images": {k: segmenter._pixels(image) for k, image in enumerate(images)}, "num_frames": len(images)}
    net.add_new_points_or_box(state, 0, 1, box=box[0])
    for k in range(len(images)):
        list(net.propagate_in_video(state, k, max_frame_num_to_track=0))
        if k == corrected:
            net.add_new_points_or_box(state, k, 1, box=box[0])
            net.propagate_in_video_preflight(state)


def test_frames_one_at_a_time_are_remembered_as_in_a_whole_video(file: tuple[str, str]) -> None:
    """How long ago somebody was seen is told to the network as a share of the most frames that it looks back."""
    _, segmenter = built(file, reprompt=1000)
    if not isinstance(segmenter, PromptedSegmenter):
        pytest.skip("it has no memory")
    import torch

    images, box, corrected = [picture(t / 10, 240, 160) for t in range(17)], np.array([FIRST], np.float32), 3
    net: Any = segmenter._net
    seen: list[torch.Tensor] = []
    net.memory_attention.register_forward_hook(lambda net, given, out: seen.append(out))
    # untrained, it would hardly matter
    times = net.temporal_positional_encoding_projection_layer if segmenter.name == "sam2" else net.obj_ptr_tpos_proj
    with torch.inference_mode():
        torch.nn.init.eye_(times.weight).mul_(100)
        segmenter.begin()
        for segmenter.frame, image in enumerate(images):
            segmenter.look(image, [1] if segmenter.frame == 0 else [], box[: segmenter.frame == 0])
            if segmenter.frame == corrected:
                segmenter.correct(image, [1], box)
        alone, seen[:] = seen[:], []
        whole(segmenter, images, box, corrected)
    assert len(alone) == len(seen) == len(images)
    apart = [float((a - b).abs().max()) for a, b in zip(alone, seen, strict=True)]
    assert max(apart) < 1e-4, apart


@pytest.mark.parametrize("way", WAYS)
def test_what_is_not_such_a_network_is_refused(way: str, tmp_path: Path) -> None:
    need(way)
    (tmp_path / "other.pt").write_bytes(b"no network")
    with pytest.raises(WeightsError, match=r"other\.pt|config\.json"):
        build_segmenter(MaskConfig(segmenter=way, segmenter_weights=str(tmp_path / "other.pt"), device="cpu"))


def test_the_configuration_of_metas_checkpoints_is_read_off_them(monkeypatch: pytest.MonkeyPatch) -> None:
    need("sam2-package")
    import functools

    import sam2
    import torch
    from hydra.utils import instantiate
    from omegaconf import OmegaConf

    from posewatch.perception.networks.sam2_package import _configuration

    folder = Path(sam2.__path__[0]) / "configs"
    # the package takes numbers out of this one tensor; the weights themselves need no memory
    monkeypatch.setattr(torch, "linspace", functools.partial(torch.linspace, device="cpu"))
    for name in ("sam2/sam2_hiera_t.yaml", *(f"sam2.1/sam2.1_hiera_{size}.yaml" for size in ("t", "s", "b+", "l"))):
        with torch.device("meta"):
            state = instantiate(OmegaConf.load(folder / name).model.image_encoder).state_dict(prefix="image_encoder.")
        more = {"no_obj_embed_spatial": None} if OmegaConf.load(folder / name).model.get("no_obj_embed_spatial") else {}
        assert _configuration({**state, **more}) == name
    with pytest.raises(ValueError, match=r"put its \.yaml beside it"):
        _configuration({"image_encoder.trunk.patch_embed.proj.bias": torch.zeros(8)})
