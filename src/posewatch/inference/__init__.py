"""Predictors: PyTorch, ONNX Runtime, OpenVINO and Triton behind one interface."""
