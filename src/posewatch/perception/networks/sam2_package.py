"""SAM 2 by Meta's own package ``sam2`` and its video predictor, on the official .pt checkpoints.

The predictor is made for videos that are known as a whole. Here its state gets one frame at a time, and only the
last one is held.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np

from posewatch import weights
from posewatch.errors import PosewatchError, WeightsError, first_line
from posewatch.perception.networks.prompted import Boxes, PromptedSegmenter
from posewatch.perception.networks.pytorch import device_of, need_torchvision
from posewatch.perception.ports import Image, Mask

_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
_SIZES = {(96, 12): "t", (96, 16): "s", (112, 24): "b+", (144, 48): "l"}
"""Width and number of the image encoder's blocks → the name of its configuration in the package."""
_FRAMES = 1 << 30
"""Of the video: more than the memory looks back. How long ago a frame was is told as a share of the smaller of both."""


class Sam2PackageSegmenter(PromptedSegmenter):
    """Masks by SAM 2. ``which`` is a published name or a .pt checkpoint of SAM 2 or 2.1; one of another size has its
    configuration, as the package's own are, beside it: the same name with .yaml."""

    name = "sam2-package"

    def __init__(self, which: str, device: str = "auto", reprompt: int = 15) -> None:
        super().__init__(reprompt)
        self.weights = weights.records([which])
        self._device = device_of(device)
        self._net = _load(weights.path(which)).to(self._device).eval()
        self._state: dict[str, Any] = {}

    def forget(self) -> None:
        self._state = {}

    def look(self, image: Image, ids: list[int], boxes: Boxes) -> dict[int, Mask]:
        if not self._state:
            if not ids:
                return {}
            self._state = self._empty(image)
        self._state["images"] = {self.frame: self._pixels(image)}
        with self._precision():
            self._add(ids, boxes)
            ((_, known, logits),) = self._net.propagate_in_video(self._state, self.frame, max_frame_num_to_track=0)
        return _masks(known, logits)

    def correct(self, image: Image, ids: list[int], boxes: Boxes) -> dict[int, Mask]:
        with self._precision():
            known, logits = self._add(ids, boxes)
            self._net.propagate_in_video_preflight(self._state)  # into the memory, while the frame is known
        return _masks(known, logits)

    def _add(self, ids: list[int], boxes: Boxes) -> tuple[list[int], Any]:
        """Prompt with boxes; returns all persons and their logits (P, 1, H, W), none without a prompt."""
        known, logits = [], None
        for track_id, box in zip(ids, boxes, strict=True):
            _, known, logits = self._net.add_new_points_or_box(self._state, self.frame, track_id, box=box)
        return known, logits

    def _empty(self, image: Image) -> dict[str, Any]:
        """What the predictor's ``init_state`` makes of a video, without frames."""
        kept = ("point_inputs_per_obj", "mask_inputs_per_obj", "cached_features", "constants", "output_dict_per_obj")
        more = ("temp_output_dict_per_obj", "frames_tracked_per_obj")
        return {
            **{name: {} for name in (*kept, *more)},
            "obj_id_to_idx": OrderedDict(), "obj_idx_to_id": OrderedDict(), "obj_ids": [],
            "num_frames": _FRAMES, "video_height": image.shape[0], "video_width": image.shape[1],
            "device": self._net.device, "storage_device": self._net.device,
            "offload_video_to_cpu": False, "offload_state_to_cpu": False,
        }  # fmt: skip

    def _precision(self) -> Any:
        """bfloat16 on a GPU, as the package's authors run it."""
        import torch

        return torch.autocast("cuda", torch.bfloat16) if self._device.startswith("cuda") else nullcontext()

    def _pixels(self, image: Image) -> Any:
        """The image as the network's input (3, side, side), as the package loads frames."""
        import torch
        from PIL import Image as pillow

        side = self._net.image_size
        pixels = np.asarray(pillow.fromarray(image).resize((side, side)), np.float32) / 255
        normal = (pixels - np.array(_MEAN, np.float32)) / np.array(_STD, np.float32)
        return torch.from_numpy(np.ascontiguousarray(normal.transpose(2, 0, 1)))


def _masks(ids: list[int], logits: Any) -> dict[int, Mask]:
    return {i: mask[0] for i, mask in zip(ids, (logits > 0).cpu().numpy(), strict=True)}


def _load(path: Path) -> Any:
    """The video predictor with the weights of a checkpoint."""
    need_torchvision()
    try:
        import sam2
        import torch
        from hydra.utils import instantiate
        from omegaconf import OmegaConf
        from sam2 import sam2_video_predictor
    except ImportError as error:
        raise PosewatchError(f"sam2-package needs Meta's package sam2 ({error}; see docs/perception.md)") from None
    sam2_video_predictor.tqdm = lambda frames, **more: frames  # a bar for every frame
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)["model"]
        own = path.with_suffix(".yaml")
        given = OmegaConf.load(own if own.is_file() else Path(sam2.__path__[0]) / "configs" / _configuration(state))
        network = instantiate(OmegaConf.merge(given.model, _AS_PUBLISHED))
        network.load_state_dict(state)
    except Exception as error:
        raise WeightsError(
            f"{path} is not a SAM 2 checkpoint of Meta's ({first_line(error)}; a folder of transformers is for sam2)"
        ) from None
    return network


_AS_PUBLISHED = {
    "_target_": "sam2.sam2_video_predictor.SAM2VideoPredictor",
    # a frame that a box corrects is used as corrected
    "add_all_frames_to_correct_as_cond": True,
    # what the package's build function sets; filling holes takes its CUDA extension
    "binarize_mask_from_pts_for_mem_enc": True,
    "sam_mask_decoder_extra_args": {
        "dynamic_multimask_via_stability": True,
        "dynamic_multimask_stability_delta": 0.05,
        "dynamic_multimask_stability_thresh": 0.98,
    },
}


def _configuration(state: Mapping[str, Any]) -> str:
    """The package's configuration file for a checkpoint. Raises ValueError for another size."""
    blocks = {key.split(".")[3] for key in state if key.startswith("image_encoder.trunk.blocks.")}
    size = (int(state["image_encoder.trunk.patch_embed.proj.bias"].shape[0]), len(blocks))
    if size not in _SIZES:
        raise ValueError(f"no published size has {size[1]} blocks of width {size[0]}; put its .yaml beside it")
    version = "sam2.1" if "no_obj_embed_spatial" in state else "sam2"
    return f"{version}/{version}_hiera_{_SIZES[size]}.yaml"
