"""ProtoGCN: ``network`` is the method, the other files are faster forms of it."""
