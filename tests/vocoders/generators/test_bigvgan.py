"""BigVGAN: what the contract of all generators does not cover. Its parity stands in test_parity.py."""

import pytest
import torch

from tests.support import models


@pytest.mark.parametrize("output", ["tanh", "clamp"])
def test_loud_audio_stays_within_one(output: str) -> None:
    model = models.generator("bigvgan", output=output)
    with torch.no_grad():
        model.get_parameter("conv_post.weight").mul_(1e4)
    audio = model(models.mel(9)).detach().abs()
    assert float(audio.max()) == 1
    assert (audio > 0.99).float().mean() > 0.9


def test_parameters_of_the_activation() -> None:
    plain, logarithms = (models.generator("bigvgan", log_scale=on) for on in (False, True))
    with torch.no_grad():
        state = plain.state_dict()
        ours = {k: v.log() if k.endswith((".alpha", ".beta")) else v for k, v in state.items()}
    logarithms.load_state_dict(ours)
    mel = models.mel(9)
    torch.testing.assert_close(logarithms(mel), plain(mel), atol=1e-5, rtol=0)
    single = models.generator("bigvgan", log_scale=False, activation="snake")
    assert not any(key.endswith(".beta") for key in single.state_dict())
    single.load_state_dict({k: v for k, v in state.items() if not k.endswith(".beta")})
    plain.load_state_dict({k: state[k.replace(".beta", ".alpha")] for k in state})
    assert torch.equal(single(mel), plain(mel))
