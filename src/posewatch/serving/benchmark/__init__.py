"""Latency and throughput of every way of serving, in one run."""
