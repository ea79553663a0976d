"""The labeling server: Streamlit's page with what stands around it: who may connect at all, clips by signed URLs,
readiness and metrics. Start it with ``streamlit run app.py``; the page itself is ``page.py``.
"""

from __future__ import annotations

import sys
from pathlib import Path

import streamlit as st

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

from starlette.middleware import Middleware  # noqa: E402

from labeling_ui.server import Gate, routes  # noqa: E402

app = st.App(HERE / "page.py", routes=routes(), middleware=[Middleware(Gate)])
