"""Use sherpa-onnx as a client: an exported vocoder after an acoustic model that returns a stored mel."""

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper


def write_acoustic_model(folder: Path, mel: np.ndarray, sample_rate: int) -> None:
    """Write a Matcha model that returns this mel for any text: acoustic.onnx, tokens.txt, lexicon.txt.

    Inputs, output and metadata are those of icefall's Matcha models, as sherpa-onnx expects
    (offline-tts-matcha-model.cc); the front-end "jieba" needs only tokens and lexicon.
    """
    inputs = [
        helper.make_tensor_value_info("x", TensorProto.INT64, [1, "tokens"]),
        helper.make_tensor_value_info("x_length", TensorProto.INT64, [1]),
        helper.make_tensor_value_info("noise_scale", TensorProto.FLOAT, [1]),
        helper.make_tensor_value_info("length_scale", TensorProto.FLOAT, [1]),
    ]
    outputs = [helper.make_tensor_value_info("mel", TensorProto.FLOAT, [1, *mel.shape])]
    stored = onnx.numpy_helper.from_array(mel[None], "stored")
    graph = helper.make_graph([helper.make_node("Identity", ["stored"], ["mel"])], "matcha", inputs, outputs, [stored])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    properties = {"sample_rate": str(sample_rate), "n_speakers": "1", "jieba": "1", "use_eos_bos": "0", "pad_id": "0"}
    helper.set_model_props(model, properties)
    onnx.save(model, folder / "acoustic.onnx")
    (folder / "tokens.txt").write_text("_ 0\na 1\n")
    (folder / "lexicon.txt").write_text("a a\n")


def speak(folder: Path, vocoder: Path, mel: np.ndarray, sample_rate: int) -> np.ndarray:
    """Synthesise a mel (n_mels, frames) with an exported vocoder in sherpa-onnx: samples."""
    import sherpa_onnx

    write_acoustic_model(folder, mel, sample_rate)
    matcha = sherpa_onnx.OfflineTtsMatchaModelConfig(
        acoustic_model=str(folder / "acoustic.onnx"),
        vocoder=str(vocoder),
        tokens=str(folder / "tokens.txt"),
        lexicon=str(folder / "lexicon.txt"),
    )
    config = sherpa_onnx.OfflineTtsConfig(model=sherpa_onnx.OfflineTtsModelConfig(matcha=matcha))
    assert config.validate()
    generation = sherpa_onnx.GenerationConfig()
    generation.silence_scale = 1  # the default shortens pauses
    audio = sherpa_onnx.OfflineTts(config).generate("a", generation)
    assert audio.sample_rate == sample_rate
    return np.asarray(audio.samples, np.float32)
