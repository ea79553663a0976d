"""Scale on paper, with a small simulation behind it: counts at a size nobody has here, measured with the real code."""
