"""The labeling server: Streamlit's page (``page.py``) with access control, signed clip URLs, readiness and metrics.

Start it with ``streamlit run app.py``.
"""

from __future__ import annotations

import sys
from pathlib import Path

import streamlit as st

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

from starlette.middleware import Middleware  # noqa: E402

from labeling_ui.compression import Compressed  # noqa: E402
from labeling_ui.first_page import FirstPage  # noqa: E402
from labeling_ui.server import Gate, routes  # noqa: E402
from posewatch import boundary  # noqa: E402

boundary.begin()
middleware = [Middleware(Gate), Middleware(Compressed), Middleware(FirstPage)]
app = st.App(HERE / "page.py", routes=routes(), middleware=middleware)
