"""Ask a served recogniser about clips: ``example_client.py grpc://host:port/model clips.npy``.

``clips.npy`` holds float32 keypoints (N, M, T, V, 3). Prints a JSON line per clip: {"normal": 0.07, "abnormal": 0.93}.
"""

from __future__ import annotations

import json
import sys

import numpy as np

from posewatch.boundary import guarded
from posewatch.errors import InputError
from posewatch.inference.open import open_predictor


def main(endpoint: str, file: str) -> int:
    """Returns the exit code."""
    try:
        clips = np.load(file, allow_pickle=False)
    except ValueError as error:
        raise InputError(f"{file} is no file of keypoints: {error}") from None
    with open_predictor(endpoint) as predictor:
        prediction = predictor.predict(clips)
    for row in prediction.probabilities.tolist():
        print(json.dumps(dict(zip(prediction.labels, (round(p, 4) for p in row), strict=True))))
    return 0


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    sys.exit(guarded("example_client", lambda: main(*sys.argv[1:]), *sys.argv[1:]))
