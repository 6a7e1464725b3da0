"""``repr`` says what a model is."""

from tests.support import models
from vocoders import MEL_CONFIGS, Vocoder, load
from vocoders.checkpoint import Checkpoint


def test_of_models() -> None:
    assert repr(load()) == "<OnnxVocoder hnmask-22k: hnmask, 22050 Hz, mel config hifigan-22k, cpu>"
    mel_config = MEL_CONFIGS["hifigan-22k"]
    checkpoint = Checkpoint(mel_config, models.generator("vocos", mel_config))
    assert repr(Vocoder(checkpoint)) == "<Vocoder: vocos, 22050 Hz, mel config hifigan-22k, cpu>"
    assert repr(Vocoder(checkpoint, "mine")) == "<Vocoder mine: vocos, 22050 Hz, mel config hifigan-22k, cpu>"
    assert repr(checkpoint) == "<Checkpoint: vocos, mel config hifigan-22k>"
    estimator = Checkpoint(mel_config, None, models.f0_estimator(mel_config))
    assert repr(estimator) == "<Checkpoint: F0 estimator, mel config hifigan-22k>"


def test_of_a_stream() -> None:
    voc = load()
    begin = "<Stream: hnmask, 22050 Hz, mel config hifigan-22k, lookahead"
    assert repr(voc.open_stream()) == f"{begin} {voc.lookahead}>"
    assert repr(voc.open_stream(given=["f0"])) == f"{begin} {voc.facts.lookahead}, given f0>"


def test_of_a_mel_config() -> None:
    assert repr(MEL_CONFIGS["vocos-24k"]) == "<MelConfig vocos-24k>"
    changed = MEL_CONFIGS["hifigan-22k"].model_copy(update={"log": "log10"})
    assert repr(changed) == "<MelConfig hifigan-22k:log=log10>"
