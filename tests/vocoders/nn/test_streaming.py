"""Networks piece by piece: every rule against the whole, in random pieces; what has no rule is refused."""

import re
from collections.abc import Callable, Sequence

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from vocoders.dsp.log_mel import LogMelSpectrogram
from vocoders.dsp.mel import MEL_CONFIGS
from vocoders.dsp.stft import STFT, reflect_pad
from vocoders.nn.streaming import Incremental

lengths = st.lists(st.integers(0, 9), min_size=1, max_size=12).filter(any)


def in_pieces(function: Callable[[Tensor], Tensor], x: Tensor, lengths: Sequence[int]) -> Tensor:
    network = Incremental(function)
    pieces = [network(piece) for piece in x.split(list(lengths), -1)]
    return torch.cat([*pieces, network(x[..., :0], last=True)], -1)


def signal(length: int, channels: int = 3) -> Tensor:
    return torch.randn(2, channels, length, generator=torch.Generator().manual_seed(length))


class Branches(nn.Module):
    """Branches that look ahead by different lengths, and one that does not."""

    def __init__(self) -> None:
        super().__init__()
        self.short = nn.Conv1d(3, 3, 3, padding=1)
        self.long = nn.Conv1d(3, 3, 5, dilation=3, padding=6)

    def forward(self, x: Tensor) -> Tensor:
        y = self.short(F.relu(x)) + x
        return torch.cat([y * self.long(y), x], dim=1).tanh()


def in_two_dimensions(x: Tensor) -> Tensor:
    """Convolution over (time, channels) with the time first, as in the trunks of Wavehax."""
    weight = torch.arange(15.0).reshape(1, 1, 5, 3) / 15
    y = F.conv2d(x.transpose(1, 2)[:, None], weight, None, (1, 1), (2, 1), (1, 1), 1)
    return y.squeeze(1).transpose(1, 2)


def repeated(x: Tensor) -> Tensor:
    return torch.stack([x, 2 * x], -1).flatten(-2).repeat_interleave(3, dim=-1)


def through_spectra(transform: STFT) -> Callable[[Tensor], Tensor]:
    def function(x: Tensor) -> Tensor:
        spectrum = transform(x)
        return transform.inverse(spectrum * spectrum.abs())

    return function


torch.manual_seed(0)
FUNCTIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "convolution": nn.Conv1d(3, 4, 5, padding=2),
    "dilated": nn.Conv1d(3, 4, 3, padding=4, dilation=4),
    "strided": nn.Conv1d(3, 4, 5, stride=2, padding=3),
    "pointwise": nn.Conv1d(3, 4, 1),
    "two dimensions": in_two_dimensions,
    "transposed": nn.ConvTranspose1d(3, 2, 8, 4, 2),
    "transposed, odd": nn.ConvTranspose1d(3, 2, 7, 4, 2, output_padding=1, bias=False),
    "transposed, no overlap": nn.ConvTranspose1d(3, 2, 4, 4),
    "branches": Branches(),
    "zeros": lambda x: F.pad(x, (2, 5)),
    "edges": lambda x: F.pad(x, (2, 5), mode="replicate"),
    "mirror": lambda x: reflect_pad(x, 4, 7),
    "mirrored channels": lambda x: F.pad(reflect_pad(x, 2, 1, dim=1), (0, 0, 1, 1)),
    "rates": repeated,
    "sum": lambda x: x.double().cumsum(-1).sin(),
}


@pytest.mark.parametrize("name", FUNCTIONS)
@settings(max_examples=30, deadline=None)
@given(lengths=lengths)
def test_pieces_join_to_the_whole(name: str, lengths: list[int]) -> None:
    x, function = signal(sum(lengths)), FUNCTIONS[name]
    try:
        with torch.no_grad():
            whole = function(x)
    except RuntimeError:  # too short for a single window
        return
    with torch.no_grad():
        joined = in_pieces(function, x, lengths)
    assert joined.dtype == whole.dtype
    torch.testing.assert_close(joined, whole, atol=1e-5, rtol=0)


@pytest.mark.parametrize("padding", ["same", "same-zeros", "center"])
@settings(max_examples=20, deadline=None)
@given(lengths=lengths)
def test_spectra_and_back(padding, lengths: list[int]) -> None:
    x = signal(8 * sum(lengths) + 32, 1)
    for window in (16, 12):
        function = through_spectra(STFT(16, 4, window, padding))
        pieces = [32, *(8 * length for length in lengths)]
        torch.testing.assert_close(in_pieces(function, x, pieces), function(x), atol=1e-5, rtol=0)


@pytest.mark.parametrize("name", ["hifigan-22k", "tacotron2-22k", "wavehax-24k", "cleanmel-16k"])
def test_analysis(name: str) -> None:
    function = LogMelSpectrogram(MEL_CONFIGS[name], torch.float64)
    x = signal(5000, 1)
    torch.testing.assert_close(in_pieces(function, x, [1, 999, 0, 3000, 1000]), function(x), atol=1e-9, rtol=0)


def test_results_are_final_as_early_as_can_be() -> None:
    network = Incremental(FUNCTIONS["branches"])
    with torch.no_grad():
        got = [network(signal(1)).shape[-1] for _ in range(20)]
    assert got == [0] * 7 + [1] * 13  # they look ahead by one, then by six


def test_nothing_is_computed_twice() -> None:
    model = nn.Sequential(*(nn.Conv1d(8, 8, 7, padding=3) for _ in range(6)))
    x = signal(200, 8)
    with torch.no_grad():
        with FlopCounterMode(display=False) as whole:
            model(x)
        with FlopCounterMode(display=False) as pieces:
            in_pieces(model, x, [1] * 200)
    # But for one window of zeros where there is nothing to do, 21 passes at the start at most; with context it is 37.
    assert pieces.get_total_flops() < 1.1 * whole.get_total_flops()


def test_what_is_kept_is_bounded_and_no_view_of_something_large() -> None:
    network = Incremental(Branches())
    kept = []
    with torch.no_grad():
        for _ in range(3):
            network(signal(10_000))
            kept.append(sum(x.untyped_storage().nbytes() for op in network._operations for x in op.kept.values()))
    assert kept[0] == kept[1] == kept[2] < 5000


@pytest.mark.parametrize(
    "function",
    [lambda x: x[..., 1:], lambda x: x.mean(-1), lambda x: x[..., ::2], lambda x: x @ x.transpose(1, 2)],
)
def test_what_has_no_rule_is_refused(function: Callable[[Tensor], Tensor]) -> None:
    with pytest.raises(NotImplementedError, match="has no rule for signals that come piece by piece"):
        Incremental(function)(signal(9))


@pytest.mark.parametrize("pad", [(1, 1, 1, 1), (0, -1)])
def test_paddings_without_a_rule_are_refused(pad: tuple[int, ...]) -> None:
    with pytest.raises(NotImplementedError, match=rf"padding by {re.escape(str(pad))}"):
        Incremental(lambda x: F.pad(x, pad))(signal(9))
    with pytest.raises(NotImplementedError, match="more is cut off at the end than stretches overlap"):
        Incremental(nn.ConvTranspose1d(3, 3, 4, 4, padding=1))(signal(9))


def test_a_network_that_hangs_on_values_is_refused() -> None:
    def function(x: Tensor) -> Tensor:
        return x.sin() if function.calls % 2 else x.cos()

    function.calls = 0
    network = Incremental(function)
    network(signal(4))
    function.calls = 1
    with pytest.raises(RuntimeError, match="passes differ: sin where cos was before"):
        network(signal(4))
