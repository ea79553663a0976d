"""Ask a model: ``predict`` on files, ``score`` on the unlabelled clips of a set."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from typer import Argument, Option

from posewatch.cli.context import Context, Writes, topic, verb
from posewatch.cores import share_cores
from posewatch.rules import Range

app = topic()


@verb(app, "predict")
def predict(
    model: Annotated[
        str,
        Argument(help="grpc://host:port/model (http, grpcs, https), a .onnx file, or a checkpoint .pt."),
    ],
    sources: Annotated[list[str], Argument(help="Videos, skeleton files (.npy, .npz, .pkl), or folders of them.")],
    context: Context,
    window_s: Annotated[
        float | None, Option(help="Seconds of a video per clip (default: split.length_s)."), Range(0, 3600, above=True)
    ] = None,
    stride_s: Annotated[
        float | None, Option(help="Seconds between clips (default: no overlap)."), Range(0, 3600, above=True)
    ] = None,
    timeout_s: Annotated[
        float, Option(help="Deadline of a request, its retries included."), Range(0, 86_400, above=True)
    ] = 30.0,
    retries: Annotated[int, Option(help="Retries of a failed request."), Range(0, 100)] = 3,
    threads: Annotated[int, Option(help="Threads of a .onnx file."), Range(1, 1024)] = 1,
    out: Annotated[Path | None, Option(metavar="FILE", help="Write the lines to this file."), Writes()] = None,
) -> str:
    """Predict the classes of videos or skeleton files."""
    share_cores()
    from posewatch.digests import canonical
    from posewatch.files import write_atomically
    from posewatch.inference.files import predict_files

    rows = predict_files(
        model, sources, context.experiment, window_s, stride_s, timeout_s=timeout_s, retries=retries, threads=threads
    )
    text = "".join(canonical(row) + "\n" for row in rows)
    if out:
        write_atomically(out, text.encode())
        return f"{len(rows)} clips: {out}"
    return text.rstrip("\n")


@verb(app, "score")
def score(
    endpoint: Annotated[str, Argument(help="Address of the served model.")],
    clips: Annotated[str, Argument(help="URI of a set of clips.")],
    skeletons: Annotated[str, Argument(help="URI of the clips' skeletons.")],
    snapshot: Annotated[str, Argument(help="URI of a label snapshot: its clips are left out.")],
    model: Annotated[str, Argument(help="URI of the published version.")],
    context: Context,
) -> str:
    """Predict unlabelled clips with the served model."""
    from posewatch.stages.score import score

    artifacts = [context.artifact(uri) for uri in (clips, skeletons, snapshot, model)]
    return score(context.objects, endpoint, *artifacts).uri
