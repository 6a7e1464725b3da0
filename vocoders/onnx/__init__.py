"""Export to ONNX, and synthesis by ONNX Runtime without torch."""
