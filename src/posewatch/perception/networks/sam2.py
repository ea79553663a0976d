"""SAM 2 (Ravi et al., arXiv 2408.00714) and EdgeTAM (arXiv 2501.07256) through transformers.

Frames go through a streaming session one at a time, and a frame's image is dropped once its features are in the memory.
"""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

import numpy as np

from posewatch import weights
from posewatch.errors import PosewatchError, WeightsError, first_line
from posewatch.perception.networks.prompted import Boxes, PromptedSegmenter
from posewatch.perception.networks.pytorch import device_of, need_torchvision
from posewatch.perception.ports import Image, Mask

_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class Sam2Segmenter(PromptedSegmenter):
    """Masks by SAM 2 or EdgeTAM. ``which`` is a published name or a folder saved by transformers."""

    name = "sam2"

    def __init__(self, which: str, device: str = "auto", reprompt: int = 15) -> None:
        super().__init__(reprompt)
        self.weights = weights.records([which])
        path = weights.path(which)
        self._net, self._session_class = _load(path if path.is_dir() else path.parent)
        import torch

        self._torch = torch
        self._device = torch.device(device_of(device))
        self._dtype = torch.bfloat16 if self._device.type == "cuda" else torch.float32
        self._net = self._net.to(self._device, self._dtype).eval()
        self._side = int(np.ravel(self._net.config.image_size)[0])
        self._session: Any = None

    def forget(self) -> None:
        self._session = None

    def look(self, image: Image, ids: list[int], boxes: Boxes) -> dict[int, Mask]:
        if self._session is None:
            if not ids:
                return {}
            self._session = self._session_class(
                video=None, video_height=image.shape[0], video_width=image.shape[1], inference_device=self._device,
                inference_state_device=self._device, video_storage_device=self._device, dtype=self._dtype,
            )  # fmt: skip
            self._session.processed_frames = {}
        self._add(image, ids, boxes)
        masks = self._run(image, frame=self._pixels(image))
        self._session.processed_frames[self.frame] = self._torch.zeros(0)  # its features are in the memory now
        return masks

    def correct(self, image: Image, ids: list[int], boxes: Boxes) -> dict[int, Mask]:
        self._add(image, ids, boxes)
        # an image, which is not looked at again, tells the network that the frames so far are not the whole video
        return self._run(image, frame=self._torch.zeros(0))

    def _add(self, image: Image, ids: list[int], boxes: Boxes) -> None:
        """Prompt the session with boxes in pixels of the image."""
        torch = self._torch
        scale = np.array([self._side / image.shape[1], self._side / image.shape[0]], np.float32)
        for track_id, box in zip(ids, boxes, strict=True):
            index = self._session.obj_id_to_idx(track_id)
            corners = torch.from_numpy(box.reshape(1, 1, 2, 2) * scale).to(self._device)
            labels = torch.tensor([[[2, 3]]], dtype=torch.int32, device=self._device)  # top left, bottom right
            self._session.add_point_inputs(index, self.frame, {"point_coords": corners, "point_labels": labels})
            self._session.remove_mask_inputs(index, self.frame)
        self._session.obj_with_new_inputs = list(ids)

    def _run(self, image: Image, **frame: Any) -> dict[int, Mask]:
        torch = self._torch
        with torch.inference_mode():
            out = self._net(inference_session=self._session, frame_idx=self.frame, **frame)
            logits = torch.nn.functional.interpolate(out.pred_masks.float(), image.shape[:2], mode="bilinear")
            visible = out.object_score_logits.float().reshape(-1) > 0
            masks = ((logits[:, 0] > 0) & visible[:, None, None]).cpu().numpy()
        return {int(i): m for i, m in zip(out.object_ids, masks, strict=True)}

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
