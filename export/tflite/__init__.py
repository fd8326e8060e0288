"""Reading TensorFlow Lite flatbuffers and rewriting them as ONNX."""
