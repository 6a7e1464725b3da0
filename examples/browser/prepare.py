"""Put what the page needs beside it: npm install && python prepare.py, in examples/browser; README.md tells more."""

import json
import shutil
from pathlib import Path

import vocoders
from vocoders.pretrained import find_pretrained

HERE = Path(__file__).parent
EXAMPLE = HERE.parents[1] / "tests" / "data" / "hello.npz"
RUNTIME = ("ort.wasm.min.mjs", "ort-wasm-simd-threaded.mjs", "ort-wasm-simd-threaded.wasm")


def main(folder: Path = HERE) -> None:
    """Fill ``folder/built``: the model, what the page has to know of it, an example mel and ONNX Runtime Web."""
    distribution, built = folder / "node_modules" / "onnxruntime-web" / "dist", folder / "built"
    if not distribution.is_dir():
        raise SystemExit(f"there is no {distribution}; run 'npm install' in {folder} first")
    built.mkdir(exist_ok=True)
    name, model = find_pretrained(None, "onnx")
    for file in (model, EXAMPLE, *(distribution / file for file in RUNTIME)):
        shutil.copyfile(file, built / file.name)
    voc = vocoders.load(model)  # ONNX Runtime Web does not show the metadata of a model
    facts = {
        "name": name,
        "lookahead": voc.facts.lookahead,
        "estimator_lookahead": voc.facts.estimator_lookahead,
        "mel_config_name": voc.mel_config.name,
        "mel_config": voc.mel_config.model_dump(),
        "example": EXAMPLE.name,
        "files": {file: (built / file).stat().st_size for file in (model.name, RUNTIME[2])},
    }
    (built / "model.json").write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
