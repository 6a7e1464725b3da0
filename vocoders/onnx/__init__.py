"""Export to ONNX, and exported models run by ONNX Runtime without torch."""
