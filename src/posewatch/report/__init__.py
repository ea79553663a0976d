"""The report of a run: pictures cut from its videos, curves, figures and lineage on one self-contained HTML page."""
