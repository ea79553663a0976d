"""A checkpoint becomes an ONNX file, checked equal; precisions; what is in a file."""
