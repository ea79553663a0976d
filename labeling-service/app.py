"""The labeling server: Streamlit's page (``page.py``) with access control, signed clip URLs, readiness and metrics.

Start it with ``streamlit run app.py``.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import streamlit as st

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

from starlette.middleware import Middleware  # noqa: E402
from websockets import http11  # noqa: E402

from labeling_ui.compression import Compressed  # noqa: E402
from labeling_ui.first_page import FirstPage  # noqa: E402
from labeling_ui.server import Gate, routes  # noqa: E402
from posewatch import boundary  # noqa: E402

boundary.begin()
if "WEBSOCKETS_MAX_LINE_LENGTH" not in os.environ:
    # Cookies of sign-in (accounts in many groups, proxies in front of several services) exceed the 8 KB a line that
    # websockets takes: it hangs up on them, where a request for the page may have 64 KB.
    http11.MAX_LINE_LENGTH = 65536
middleware = [Middleware(Gate), Middleware(Compressed), Middleware(FirstPage)]
app = st.App(HERE / "page.py", routes=routes(), middleware=middleware)
