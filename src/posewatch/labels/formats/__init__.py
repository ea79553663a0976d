"""Label files in and out, and frozen snapshots."""
