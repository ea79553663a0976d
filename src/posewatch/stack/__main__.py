"""``python -m posewatch.stack install``: put the embedded servers in place, so that the first ``up`` is quick.

``install openvino`` also installs the accelerator of that name, for CPUs.
"""

import sys

from posewatch.errors import PosewatchError
from posewatch.stack.seaweed import find_weed
from posewatch.stack.triton_install import ensure_openvino, ensure_triton


def main(argv: list[str]) -> int:
    if argv not in (["install"], ["install", "openvino"]):
        print("usage: python -m posewatch.stack install [openvino]", file=sys.stderr)
        return 2
    try:
        find_weed()
        ensure_triton()
        if "openvino" in argv:
            ensure_openvino()
    except PosewatchError as error:
        print(f"posewatch: {error}", file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
