"""Write tests/data/small.onnx, for tests without torch: python -m tests.support.small"""

from tests.support import models
from tests.support.server import SMALL
from vocoders.onnx.export import export_onnx

if __name__ == "__main__":
    export_onnx(models.checkpoint(), SMALL)
