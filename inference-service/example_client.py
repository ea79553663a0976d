"""Ask a served recogniser about clips: ``example_client.py grpc://host:port/model clips.npy``.

``clips.npy`` holds float32 keypoints (N, M, T, V, 3). Prints one JSON line per clip: {"abnormal": 0.93, ...}.
"""

from __future__ import annotations

import json
import sys
from urllib.parse import urlsplit

import numpy as np

from posewatch.errors import PosewatchError
from posewatch.inference.triton import TritonPredictor


def main(endpoint: str, file: str) -> int:
    """Returns the exit code."""
    url = urlsplit(endpoint)
    try:
        clips = np.load(file, allow_pickle=False)
        with TritonPredictor(url.netloc, url.path.strip("/"), url.scheme) as predictor:
            answer = predictor.predict(clips)
    except (PosewatchError, OSError, ValueError) as error:
        print(f"example_client: {error}", file=sys.stderr)
        return getattr(error, "exit_code", 2)
    for row in answer.probabilities.tolist():
        print(json.dumps(dict(zip(answer.labels, (round(p, 4) for p in row), strict=True))))
    return 0


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    sys.exit(main(*sys.argv[1:]))
