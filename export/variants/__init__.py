"""Variants of an ONNX network in other precisions: float16, int8."""
