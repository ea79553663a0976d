"""Small networks of the real classes, with weights that see the white square of ``pictures``, or random ones."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np


def rtmo(
    path: Path, side: int = 128, batch: int | None = None, outputs: tuple[str, str] = ("dets", "keypoints")
) -> Path:
    """An ONNX file with RTMO's published contract that finds the brightest rectangle, in rows as the real one's.

    Row 0 is a shifted, weaker copy of row 1, row 1 the find (score: 0.9 where there is one, else 0), row 2 is NaN.
    The joints lie on the diagonal of the box.
    """
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    n = batch if batch is not None else "batch"
    steps = np.arange(side, dtype=np.float32)
    constants = {
        "bright": np.float32(190), "along": steps, "far": np.float32(1e4), "one": np.float32(1),
        "score": np.float32(0.9),
        "axis_c": np.array([1]), "axis_h": np.array([1]), "axis_w": np.array([2]), "axis_last": np.array([1]),
        "zero": np.float32(0), "unsq1": np.array([1]), "weaker": np.array([1, 1, 1, 1, 0.6], np.float32),
        "moved": np.array([2, 2, 2, 2, 0], np.float32), "nan": np.full(5, np.nan, np.float32),
        "low": np.array([0, 1]), "high": np.array([2, 3]), "share": np.linspace(0, 1, 17, dtype=np.float32)[:, None],
        "sure": np.ones((1, 1, 17, 1), np.float32), "axis2": np.array([2]),
    }  # fmt: skip
    node = helper.make_node
    nodes = [
        node("ReduceMin", ["input", "axis_c"], ["grey"], keepdims=0),  # (N, S, S); white is bright in all channels
        node("Greater", ["grey", "bright"], ["lit"]),
        node("Cast", ["lit"], ["light"], to=TensorProto.FLOAT),
        node("ReduceMax", ["light", "axis_h"], ["columns"], keepdims=0),  # (N, S)
        node("ReduceMax", ["light", "axis_w"], ["rows"], keepdims=0),
    ]
    for name, axis in (("x", "columns"), ("y", "rows")):
        nodes += [
            node("Sub", ["one", axis], [f"{name}_off"]),
            node("Mul", [f"{name}_off", "far"], [f"{name}_away"]),
            node("Add", [f"{name}_away", "along"], [f"{name}_first"]),
            node("ReduceMin", [f"{name}_first", "axis_last"], [f"{name}1"], keepdims=1),
            node("Mul", [axis, "along"], [f"{name}_on"]),
            node("ReduceMax", [f"{name}_on", "axis_last"], [f"{name}_end"], keepdims=1),
            node("Add", [f"{name}_end", "one"], [f"{name}2"]),
        ]
    nodes += [
        node("ReduceMax", ["columns", "axis_last"], ["any"], keepdims=1),
        node("Mul", ["any", "score"], ["sure_of_it"]),
        node("Concat", ["x1", "y1", "x2", "y2", "sure_of_it"], ["row"], axis=1),  # (N, 5)
        node("Mul", ["row", "weaker"], ["row_weak"]),
        node("Add", ["row_weak", "moved"], ["row_moved"]),
        node("Mul", ["row", "zero"], ["row_zero"]),
        node("Add", ["row_zero", "nan"], ["row_nan"]),
        *(node("Unsqueeze", [r, "unsq1"], [f"{r}_3"]) for r in ("row_moved", "row", "row_nan")),
        node("Concat", ["row_moved_3", "row_3", "row_nan_3"], [outputs[0]], axis=1),  # (N, 3, 5)
        node("Gather", [outputs[0], "low"], ["corner"], axis=2),
        node("Gather", [outputs[0], "high"], ["other"], axis=2),
        node("Sub", ["other", "corner"], ["size"]),
        node("Unsqueeze", ["corner", "axis2"], ["corner_4"]),
        node("Unsqueeze", ["size", "axis2"], ["size_4"]),
        node("Mul", ["size_4", "share"], ["way"]),
        node("Add", ["corner_4", "way"], ["places"]),  # (N, 3, 17, 2)
        node("Slice", ["places", "s0", "s1", "s3"], ["first_axis"]),
        node("Mul", ["first_axis", "zero"], ["nothing"]),
        node("Add", ["nothing", "sure"], ["scores"]),
        node("Concat", ["places", "scores"], [outputs[1]], axis=3),
    ]
    constants |= {"s0": np.array([0]), "s1": np.array([1]), "s3": np.array([3])}
    graph = helper.make_graph(
        nodes,
        "rtmo",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, [n, 3, side, side])],
        [
            helper.make_tensor_value_info(outputs[0], TensorProto.FLOAT, [n, 3, 5]),
            helper.make_tensor_value_info(outputs[1], TensorProto.FLOAT, [n, 3, 17, 3]),
        ],
        [numpy_helper.from_array(np.asarray(v), k) for k, v in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    onnx.checker.check_model(model)
    onnx.save(model, str(path))
    return path


def yolo(path: Path, kind: str = "yolo11n.yaml", confident: bool = True) -> Path:
    """A YOLO11 of the vendor's own definition at random weights; ``confident`` lets it report persons everywhere."""
    import torch

    from posewatch.perception.networks.pytorch import need_torchvision

    need_torchvision()
    from ultralytics import YOLO

    torch.manual_seed(0)
    net = YOLO(kind, verbose=False)
    if confident:
        levels = net.model.model[-1].cv3
        for i, layer in enumerate(levels):
            torch.nn.init.zeros_(layer[-1].weight)
            torch.nn.init.constant_(layer[-1].bias, -9.0)
            if i == len(levels) - 1:  # the coarsest level alone: 400 places at most
                layer[-1].bias.data[0] = 2.0
        head = net.model.model[-1]
        if hasattr(head, "proto"):  # masks that are not empty, which Ultralytics would drop with their boxes
            for layer in head.cv4:
                torch.nn.init.zeros_(layer[-1].weight)
                torch.nn.init.ones_(layer[-1].bias)
            torch.nn.init.ones_(head.proto.cv3.bn.bias)
    net.save(str(path))
    return path


def sam2(folder: Path, real_size: bool = False) -> Path:
    """A SAM 2 video network at random weights: tiny pictures and few layers, or hiera-tiny as published."""
    import torch

    from posewatch.perception.networks.pytorch import need_torchvision

    need_torchvision()
    from transformers import Sam2VideoConfig, Sam2VideoModel

    torch.manual_seed(0)
    config = Sam2VideoConfig()
    if not real_size:
        backbone = config.vision_config.backbone_config
        backbone.image_size, backbone.blocks_per_stage, backbone.global_attention_blocks = [256, 256], [1, 1, 2, 1], [3]
        config.vision_config.backbone_feature_sizes = [[64, 64], [32, 32], [16, 16]]
        config.prompt_encoder_config.image_size = config.image_size = 256
        config.memory_attention_rope_feat_sizes, config.memory_attention_num_layers = [16, 16], 1
    Sam2VideoModel(config).save_pretrained(folder)
    return folder


def sam2_package(path: Path) -> Path:
    """A checkpoint of Meta's package as it publishes them, at random weights and small size, and its configuration."""
    import sam2
    import torch
    from hydra.utils import instantiate
    from omegaconf import OmegaConf

    config = OmegaConf.load(Path(sam2.__path__[0]) / "configs/sam2.1/sam2.1_hiera_t.yaml")
    model = config.model
    model.image_size, model.memory_attention.num_layers = 256, 1
    for kind in ("self_attention", "cross_attention"):
        model.memory_attention.layer[kind].feat_sizes = [16, 16]
    trunk = {"embed_dim": 24, "stages": [1, 1, 2, 1], "global_att_blocks": [3]}
    model.image_encoder.trunk.update(trunk)
    model.image_encoder.neck.backbone_channel_list = [192, 96, 48, 24]
    OmegaConf.save(config, path.with_suffix(".yaml"))
    torch.manual_seed(0)
    torch.save({"model": instantiate(model).state_dict()}, path)
    return path


def sam2_ultralytics(path: Path, patch: Any) -> Path:
    """A checkpoint for Ultralytics' SAM 2 at random weights, whose builder ``patch`` (MonkeyPatch) makes small."""
    import torch

    from posewatch.perception.networks.yolo import load_ultralytics

    load_ultralytics()
    from ultralytics.models.sam import build

    def small(checkpoint: str | None = None) -> Any:
        return build._build_sam2(
            24, [1, 1, 2, 1], 1, [3], encoder_window_spec=[8, 4, 14, 7],
            encoder_backbone_channel_list=[192, 96, 48, 24], checkpoint=checkpoint,
        )  # fmt: skip

    torch.manual_seed(0)
    with patch.context() as nothing_to_load:
        nothing_to_load.setattr(build, "_load_checkpoint", lambda model, checkpoint: model)
        torch.save({"model": small(path.name).state_dict()}, path)  # its name tells the version
    patch.setitem(build.sam_model_map, path.name, small)
    return path


def edgetam(folder: Path) -> Path:
    """An EdgeTAM video network at random weights: RepViT as published, tiny pictures."""
    import torch

    from posewatch.perception.networks.pytorch import need_torchvision

    need_torchvision()
    from transformers import EdgeTamVideoConfig, EdgeTamVisionConfig, TimmWrapperConfig
    from transformers.models.edgetam_video.modeling_edgetam_video import EdgeTamVideoModel

    torch.manual_seed(0)
    levels = {"in_chans": 3, "features_only": True, "out_indices": [0, 1, 2, 3]}
    vision = EdgeTamVisionConfig(
        backbone_config=TimmWrapperConfig(architecture="repvit_m0_9", model_args=levels, do_pooling=False),
        backbone_feature_sizes=[[64, 64], [32, 32], [16, 16]],
    )
    config = EdgeTamVideoConfig(vision_config=vision, image_size=256)
    config.prompt_encoder_config.image_size = 256
    config.memory_attention_rope_feat_sizes = config.memory_attention_rope_k_sizes = [16, 16]
    EdgeTamVideoModel(config).save_pretrained(folder)
    return folder


def yolox(
    path: Path, side: tuple[int, int] = (128, 96), batch: int | None = 1, classes: int = 80, decoded: bool = False
) -> Path:
    """An ONNX file with the contract of YOLOX's release (input ``images``, output ``output``) for a (width, height).

    Three levels as in YOLOX's head. On the finest, what is bright is an object: of class 1 where blue and green are
    missing, else a person. ``decoded`` gives boxes in pixels, as its export with --decode_in_inference does.
    """
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    rng, node, n = np.random.default_rng(0), helper.make_node, "batch" if batch is None else batch
    constants: dict[str, Any] = {}
    nodes, levels, cells = [], [], 0
    for level, stride in enumerate((8, 16, 32)):
        weight = np.zeros((5 + classes, 3), np.float32)  # what a cell's mean blue, green and red say
        weight[:4] = rng.normal(0, 0.1, (4, 3))
        weight[4] = 7.0
        bias = np.full(5 + classes, -9.0, np.float32)
        bias[:6] = [0.5, 0.5, 0.7, 0.7, -16.0 if level == 0 else -99.0, 3.0]
        if classes > 1:
            weight[6] = [-20.0, -20.0, 40.0]
        height, width = side[1] // stride, side[0] // stride
        grid = np.stack(np.meshgrid(np.arange(width), np.arange(height)))[None].astype(np.float32)
        cells += height * width
        constants |= {f"w{level}": weight[..., None, None] / 255, f"b{level}": bias, f"g{level}": grid}
        constants |= {f"s{level}": np.float32(stride), f"parts{level}": np.array([2, 2, 1 + classes])}
        xy, wh = f"xy{level}", f"wh{level}"
        nodes += [
            node("AveragePool", ["images"], [f"pool{level}"], kernel_shape=[stride] * 2, strides=[stride] * 2),
            node("Conv", [f"pool{level}", f"w{level}", f"b{level}"], [f"all{level}"]),
            node("Split", [f"all{level}", f"parts{level}"], [xy, wh, f"logits{level}"], axis=1),
            node("Sigmoid", [f"logits{level}"], [f"sure{level}"]),
        ]
        if decoded:
            nodes += [
                node("Add", [xy, f"g{level}"], [f"{xy}_g"]), node("Mul", [f"{xy}_g", f"s{level}"], [f"{xy}_s"]),
                node("Exp", [wh], [f"{wh}_e"]), node("Mul", [f"{wh}_e", f"s{level}"], [f"{wh}_s"]),
            ]  # fmt: skip
            xy, wh = f"{xy}_s", f"{wh}_s"
        constants[f"shape{level}"] = np.array([0, 5 + classes, -1])
        nodes += [
            node("Concat", [xy, wh, f"sure{level}"], [f"joined{level}"], axis=1),
            node("Reshape", [f"joined{level}", f"shape{level}"], [f"flat{level}"]),
        ]
        levels.append(f"flat{level}")
    nodes += [node("Concat", levels, ["columns"], axis=2), node("Transpose", ["columns"], ["output"], perm=[0, 2, 1])]
    graph = helper.make_graph(
        nodes,
        "yolox",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, [n, 3, side[1], side[0]])],
        [helper.make_tensor_value_info("output", TensorProto.FLOAT, [n, cells, 5 + classes])],
        [numpy_helper.from_array(np.asarray(v), k) for k, v in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    onnx.checker.check_model(model)
    onnx.save(model, str(path))
    return path


def rtmpose(
    path: Path,
    side: tuple[int, int] = (48, 64),
    batch: int | None = None,
    joints: int = 17,
    outputs: tuple[str, str] = ("simcc_x", "simcc_y"),
) -> Path:
    """An ONNX file with the contract of MMPose's RTMPose SDK for a (width, height): all joints in the brightest column
    and row of the red channel, joint j scores 1 - j / 20 in x and 1 in y."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    node, n = helper.make_node, "batch" if batch is None else batch
    falling = (1 - np.arange(joints, dtype=np.float32) / 20)[:, None]
    constants = {
        "zero": np.array([0]), "one": np.array([1]), "two": np.array([2]),
        "twice": np.array([1.0, 1.0, 2.0], np.float32), "falling": falling, "level": np.ones((joints, 1), np.float32),
        "no": np.array([], np.float32),
    }  # fmt: skip
    nodes = [
        node("Slice", ["input", "zero", "one", "one"], ["red4"]),
        node("Squeeze", ["red4", "one"], ["red"]),  # (N, H, W)
    ]
    for name, axis, weight in (("x", 1, "falling"), ("y", 2, "level")):
        nodes += [
            node("ReduceMax", ["red", ["", "one", "two"][axis]], [f"{name}_best"], keepdims=0),
            node("Unsqueeze", [f"{name}_best", "one"], [f"{name}_row"]),  # (N, 1, n)
            node("ReduceMax", [f"{name}_row", "two"], [f"{name}_top"], keepdims=1),
            node("Div", [f"{name}_row", f"{name}_top"], [f"{name}_share"]),
            node("Resize", [f"{name}_share", "no", "twice"], [f"{name}_fine"], mode="nearest", nearest_mode="floor",
                 coordinate_transformation_mode="asymmetric"),
            node("Mul", [f"{name}_fine", weight], [outputs[name == "y"]]),
        ]  # fmt: skip
    graph = helper.make_graph(
        nodes,
        "rtmpose",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, [n, 3, side[1], side[0]])],
        [
            helper.make_tensor_value_info(name, TensorProto.FLOAT, [n, joints, 2 * length])
            for name, length in zip(outputs, side, strict=True)
        ],
        [numpy_helper.from_array(np.asarray(v), k) for k, v in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    onnx.checker.check_model(model)
    onnx.save(model, str(path))
    return path


def detr(folder: Path, kind: str = "rt_detr_v2") -> Path:
    """An RT-DETRv2 or D-FINE at random weights and small size, with its image processor, as transformers saves them.

    It answers with six boxes, most of them persons, some dogs.
    """
    import torch

    from posewatch.perception.networks.pytorch import need_torchvision

    need_torchvision()
    from transformers import AutoConfig, AutoModelForObjectDetection, RTDetrImageProcessor

    torch.manual_seed(0)
    backbones = {
        "rt_detr_v2": {
            "model_type": "rt_detr_resnet", "layer_type": "basic", "embedding_size": 8, "depths": [1, 1, 1, 1],
            "hidden_sizes": [8, 16, 16, 16], "out_indices": [2, 3, 4],
        },
        "d_fine": {
            "model_type": "hgnet_v2", "stem_channels": [3, 8, 8], "stage_in_channels": [8, 16, 16, 16],
            "stage_mid_channels": [8, 8, 8, 8], "stage_out_channels": [16, 16, 16, 16], "out_indices": [2, 3, 4],
            "stage_num_blocks": [1, 1, 1, 1], "stage_numb_of_layers": [1, 1, 1, 1], "hidden_sizes": [16, 16, 16, 16],
        },
    }  # fmt: skip
    config = AutoConfig.for_model(
        kind, backbone_config=backbones[kind], encoder_in_channels=[16, 16, 16], encoder_hidden_dim=32,
        encoder_ffn_dim=32, encoder_attention_heads=2, d_model=32, decoder_in_channels=[32, 32, 32], decoder_ffn_dim=32,
        decoder_attention_heads=2, decoder_layers=2, num_queries=6, num_denoising=0,
        id2label={0: "dog", 1: "person", 2: "car"}, label2id={"dog": 0, "person": 1, "car": 2},
    )  # fmt: skip
    network = AutoModelForObjectDetection.from_config(config)
    for layer in network.model.decoder.class_embed:
        torch.nn.init.normal_(layer.weight, std=0.2)
        layer.bias.data[:] = torch.tensor([-1.0, 0.5, -9.0])
    network.save_pretrained(folder)
    RTDetrImageProcessor(size={"height": 96, "width": 96}, do_normalize=False).save_pretrained(folder)
    return folder
