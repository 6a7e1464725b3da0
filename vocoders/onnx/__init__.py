"""Export to ONNX, and exported models run without torch."""
