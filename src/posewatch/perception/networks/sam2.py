"""SAM 2 (Ravi et al., arXiv 2408.00714) and EdgeTAM (arXiv 2501.07256) through transformers: boxes prompt masks, which
a memory propagates from frame to frame.

Frames go through a streaming session one at a time. A person's box is the prompt when the person appears, every
``reprompt`` frames, and when mask and box disagree. Every shard of the video has a new session, and a frame's image is
dropped once its features are in the memory, so memory use does not grow with the length of the video.
"""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from posewatch import weights
from posewatch.errors import PosewatchError, WeightsError, first_line
from posewatch.perception.networks.boxes import BoxSegmenter
from posewatch.perception.networks.pytorch import device_of, need_torchvision
from posewatch.perception.ports import Image, Mask, Masks, Segmenter
from posewatch.perception.tracking.matching import iou
from posewatch.records import Detections

_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
_AGREE = 0.5
"""IoU of the mask's box and the detector's below which the person is prompted again."""
_LEAST_FILL = 0.05
"""A mask that fills less of its box has failed, and the box takes its place."""
_ROOM = 0.2
"""Share of its sides by which a mask may extend beyond its box."""


class Sam2Segmenter(Segmenter):
    """Masks by SAM 2 or EdgeTAM. ``which`` is a published name or a folder saved by transformers."""

    name = "sam2"

    def __init__(self, which: str, device: str = "auto", reprompt: int = 15) -> None:
        self.weights = weights.records([which])
        path = weights.path(which)
        self._net, self._session_class = _load(path if path.is_dir() else path.parent)
        import torch

        self._torch = torch
        self._device = torch.device(device_of(device))
        self._dtype = torch.bfloat16 if self._device.type == "cuda" else torch.float32
        self._net = self._net.to(self._device, self._dtype).eval()
        self._side = int(np.ravel(self._net.config.image_size)[0])
        self._reprompt = reprompt
        self._session: Any = None
        self._frame = -1
        self._masks: dict[int, Mask] = {}
        """Track id → mask in the last frame."""
        self._prompted: dict[int, int] = {}
        """Track id → frame of the last prompt."""
        self.prompts = 0
        """Number of prompts so far."""

    def begin(self) -> None:
        """Forget all persons; the next image begins a new session."""
        self._session, self._frame, self._masks, self._prompted = None, -1, {}, {}

    def segment(self, image: Image, detections: Detections) -> Masks:
        """Masks (P, H, W); without ``detections.ids`` each image is segmented by itself."""
        if detections.ids is None:
            self.begin()
        ids = list(range(len(detections))) if detections.ids is None else [int(i) for i in detections.ids]
        self._frame += 1
        self._masks = {}
        new = [k for k, i in enumerate(ids) if self._frame - self._prompted.get(i, -(10**9)) >= self._reprompt]
        if new:
            self._prompt(image.shape[:2], [ids[k] for k in new], detections.boxes[new])
        if self._session is None or self._session.get_obj_num() == 0:
            return np.zeros((len(detections), *image.shape[:2]), bool)
        self._run(image)
        if wrong := [k for k, i in enumerate(ids) if k not in new and not self._agrees(i, detections.boxes[k])]:
            self._prompt(image.shape[:2], [ids[k] for k in wrong], detections.boxes[wrong])
            self._run(image, again=True)
        self._session.processed_frames[self._frame] = self._torch.zeros(0)  # its features are in the memory now
        fallback = BoxSegmenter().segment(image, detections)
        grown = BoxSegmenter().segment(image, Detections(_grow(detections.boxes), detections.scores))
        masks = np.stack([self._masks[i] for i in ids]) & grown if ids else fallback
        for k in range(len(ids)):
            if (masks[k] & fallback[k]).sum() < _LEAST_FILL * fallback[k].sum():
                masks[k] = fallback[k]
        return masks

    def recall(self, track_ids: Sequence[int]) -> dict[int, Mask]:
        return {i: self._masks[i] for i in track_ids if i in self._masks}

    def _agrees(self, track_id: int, box: NDArray[np.float32]) -> bool:
        around = _box_of(self._masks[track_id])
        return around is not None and float(iou(around[None], box[None])[0, 0]) >= _AGREE

    def _prompt(self, shape: tuple[int, ...], ids: list[int], boxes: NDArray[np.float32]) -> None:
        """Prompt with boxes in pixels of an image of that (H, W)."""
        torch = self._torch
        if self._session is None:
            self._session = self._session_class(
                video=None, video_height=shape[0], video_width=shape[1], inference_device=self._device,
                inference_state_device=self._device, video_storage_device=self._device, dtype=self._dtype,
            )  # fmt: skip
            self._session.processed_frames = {}
        scale = np.array([self._side / shape[1], self._side / shape[0]], np.float32)
        for track_id, box in zip(ids, boxes, strict=True):
            index = self._session.obj_id_to_idx(track_id)
            corners = torch.from_numpy(box.reshape(1, 1, 2, 2) * scale).to(self._device)
            labels = torch.tensor([[[2, 3]]], dtype=torch.int32, device=self._device)  # top left, bottom right
            self._session.add_point_inputs(index, self._frame, {"point_coords": corners, "point_labels": labels})
            self._session.remove_mask_inputs(index, self._frame)
            self._prompted[track_id] = self._frame
        self._session.obj_with_new_inputs = list(ids)
        self.prompts += len(ids)

    def _run(self, image: Image, again: bool = False) -> None:
        torch = self._torch
        with torch.inference_mode():
            if again:
                out = self._net(inference_session=self._session, frame_idx=self._frame)
            else:
                pixels = self._pixels(image)
                out = self._net(inference_session=self._session, frame=pixels, frame_idx=self._frame)
            logits = torch.nn.functional.interpolate(out.pred_masks.float(), image.shape[:2], mode="bilinear")
            visible = out.object_score_logits.float().reshape(-1) > 0
            masks = ((logits[:, 0] > 0) & visible[:, None, None]).cpu().numpy()
        self._masks = {int(i): m for i, m in zip(out.object_ids, masks, strict=True)}

    def _pixels(self, image: Image) -> Any:
        """The image as the network's input (1, 3, side, side), normalised as on ImageNet."""
        torch = self._torch
        data = torch.from_numpy(np.ascontiguousarray(image)).to(self._device).permute(2, 0, 1)[None].float()
        data = torch.nn.functional.interpolate(data, (self._side,) * 2, mode="bilinear", antialias=True).round()
        mean = torch.tensor(_MEAN, device=self._device)[:, None, None]
        std = torch.tensor(_STD, device=self._device)[:, None, None]
        return ((data / 255 - mean) / std).to(self._dtype)


def _load(folder: Path) -> tuple[Any, Any]:
    """The network in a folder of transformers, and its session class."""
    try:
        kind = json.loads((folder / "config.json").read_text(encoding="utf-8")).get("model_type", "")
    except (OSError, ValueError):
        raise WeightsError(f"{folder} holds no config.json (give a folder as transformers saves it)") from None
    if importlib.util.find_spec("torchvision"):  # transformers imports it when it is installed
        need_torchvision()
    network: Any
    session: Any
    try:
        import transformers

        transformers.logging.set_verbosity_error()
        transformers.utils.logging.disable_progress_bar()
        if kind.startswith("edgetam"):
            from transformers.models.edgetam_video import modeling_edgetam_video as edgetam

            network, session = edgetam.EdgeTamVideoModel, edgetam.EdgeTamVideoInferenceSession
        else:
            from transformers.models.sam2_video import modeling_sam2_video as sam2

            network, session = sam2.Sam2VideoModel, sam2.Sam2VideoInferenceSession
    except ImportError as error:
        raise PosewatchError(f"SAM 2 needs transformers ({error}): pip install 'posewatch[sam2]'") from None
    try:
        return network.from_pretrained(str(folder), local_files_only=True), session
    except Exception as error:
        raise WeightsError(f"{folder} is not a SAM 2 video network ({first_line(error)}; fetch it again)") from None


def _box_of(mask: Mask) -> NDArray[np.float32] | None:
    """The box (4,) around a mask (H, W), None for an empty one."""
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    if not len(rows):
        return None
    return np.array([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1], np.float32)


def _grow(boxes: NDArray[np.float32]) -> NDArray[np.float32]:
    """Boxes (P, 4) with ``_ROOM`` added on each side."""
    room = _ROOM * (boxes[:, 2:] - boxes[:, :2])
    return np.concatenate([boxes[:, :2] - room, boxes[:, 2:] + room], 1).astype(np.float32)
