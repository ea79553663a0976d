"""Serving: the Triton model repository, its clients, the benchmark, and the deployment to a cluster."""
