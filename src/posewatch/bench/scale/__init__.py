"""What can be measured about scale on one machine: the label store, the object store, the fan-out of a run."""
