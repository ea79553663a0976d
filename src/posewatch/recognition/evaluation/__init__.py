"""How good a recogniser is: metrics, baselines, robustness, plots."""
