"""Torch modules written as ONNX, graphs changed, and compared with what they were made from."""
