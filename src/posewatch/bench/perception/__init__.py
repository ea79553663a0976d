"""Benchmarks of detection, masks and skeletons: quality against exact truth, and speed part by part."""
