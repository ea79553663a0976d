"""Labels: clips to be labelled, append-only label events, importers, snapshots and the gate that waits for people."""
