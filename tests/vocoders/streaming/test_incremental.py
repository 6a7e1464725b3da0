"""Networks piece by piece: every rule against the whole, in random pieces; what has no rule is refused."""

import gc
import re
import weakref
from collections.abc import Callable, Sequence

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from vocoders.config import Padding
from vocoders.dsp.log_mel import LogMelSpectrogram
from vocoders.dsp.mel import MEL_CONFIGS
from vocoders.dsp.stft import STFT, reflect_pad
from vocoders.errors import VocoderError
from vocoders.nn.layers import trim
from vocoders.streaming.incremental import Incremental

lengths = st.lists(st.integers(0, 9), min_size=1, max_size=12).filter(any)


def in_pieces(
    function: Callable[[Tensor], Tensor], x: Tensor, lengths: Sequence[int], owner: object | None = None
) -> Tensor:
    network = Incremental(function, owner)
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
    "cut": lambda x: trim(F.pad(x.repeat_interleave(3, -1), (6, 4)), 7, 3),
    "rates": repeated,
    "sum": lambda x: x.double().cumsum(-1).sin(),
}


@pytest.mark.parametrize("name", FUNCTIONS)
@settings(max_examples=30, deadline=None)
@given(lengths=lengths)
def test_pieces_join_to_the_whole(name: str, lengths: list[int]) -> None:
    x, function = signal(sum(lengths)), FUNCTIONS[name]
    with torch.no_grad():
        whole, joined = function(x), in_pieces(function, x, lengths)
    assert joined.dtype == whole.dtype
    torch.testing.assert_close(joined, whole, atol=1e-5, rtol=0)


@pytest.mark.parametrize("padding", ["same", "same-zeros", "center"])
@settings(max_examples=20, deadline=None)
@given(lengths=lengths)
def test_spectra_and_back(padding: Padding, lengths: list[int]) -> None:
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
        with FlopCounterMode(display=False):  # which adds operations of its own
            Incremental(model, model)(x)  # the trial of the first utterance
        with FlopCounterMode(display=False) as whole:
            model(x)
        with FlopCounterMode(display=False) as pieces:
            in_pieces(model, x, [1] * 200, owner=model)
    # But for one window of zeros where there is nothing to do, 21 passes at the start at most; with context it is 37.
    assert pieces.get_total_flops() < 1.1 * whole.get_total_flops()


def test_what_is_kept_is_bounded_and_no_view_of_something_large() -> None:
    network = Incremental(Branches())
    kept = []
    with torch.no_grad():
        for _ in range(3):
            network(signal(10_000))
            kept.append(sum(x.untyped_storage().nbytes() for op in network.operations for x in op.kept.values()))
    assert kept[0] == kept[1] == kept[2] < 5000


class Recurrent(nn.Module):
    """An LSTM over time."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(3, 3, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.lstm(x.transpose(1, 2))[0].transpose(1, 2)


class Chain(nn.Module):
    """An operation between two convolutions, so that some columns have to wait for others."""

    def __init__(self, operation: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.before = nn.Conv1d(3, 4, 3, padding=1)
        self.operation = operation
        self.after = nn.Conv1d(4, 3, 5, padding=2)

    def forward(self, x: Tensor) -> Tensor:
        return self.after(self.operation(self.before(x)))


def transformer(x: Tensor) -> Tensor:
    x = x.transpose(1, 2)
    return F.scaled_dot_product_attention(x, x, x).transpose(1, 2)


def filled(x: Tensor) -> Tensor:
    out = torch.zeros(2, 4, x.shape[-1])
    out[:] = x
    return out


def shifted_in_place(x: Tensor) -> Tensor:
    ahead = F.conv1d(x, torch.ones(4, 1, 5), None, 1, 2, 1, 4)
    x.add_(ahead)  # what is returned is the changed x, not what add_ returns
    return x


def gathered(x: Tensor) -> Tensor:
    return x.gather(-1, torch.argsort(x, -1))


# Operations whose result for one column depends on other columns, on the number of columns of a piece, or on chance:
# with shapes alone in view all of these pass for columnwise. By the name that the refusal has to hold.
NOT_COLUMNWISE: dict[str, tuple[str, Callable[[Tensor], Tensor]]] = {
    "group norm": ("group_norm", nn.GroupNorm(2, 4)),
    "instance norm": ("instance_norm", nn.InstanceNorm1d(4)),
    "batch norm in training mode": ("batch_norm", nn.BatchNorm1d(4).train()),
    "average pooling": ("avg_pool1d", nn.AvgPool1d(3, 1, 1)),
    "average pooling without overlap": ("avg_pool1d", nn.AvgPool1d(2)),
    "max pooling": ("max_pool1d", nn.MaxPool1d(3, 1, 1)),
    "softmax over time": ("softmax", lambda x: x.softmax(-1)),
    "linear interpolation": ("interpolate", nn.Upsample(scale_factor=2, mode="linear")),
    "nearest, to a size": ("interpolate", lambda x: F.interpolate(x, size=2 * x.shape[-1])),
    "recurrent": ("lstm", nn.Sequential(nn.Conv1d(4, 3, 1), Recurrent(), nn.Conv1d(3, 4, 1))),
    "attention": ("scaled_dot_product_attention", transformer),
    "flip": ("flip", lambda x: x.flip(-1)),
    "roll": ("roll", lambda x: x.roll(1, -1)),
    "sort": ("sort", lambda x: x.sort(-1)[0]),
    "gather over time": ("argsort", gathered),
    "running product": ("cumprod", lambda x: x.cumprod(-1)),
    "running maximum": ("cummax", lambda x: x.cummax(-1).values),
    "mean over time": ("mean", lambda x: x - x.mean(-1, keepdim=True)),
    "share of the peak": ("amax", lambda x: x / x.abs().amax()),
    "values in Python": ("tolist", lambda x: x / x.tolist()[0][0][0]),
    "values in numpy": ("numpy", lambda x: x + torch.from_numpy(x.detach().numpy())),
    "norm above a threshold": ("renorm", lambda x: x.renorm(2, 1, 100.0)),
    "dropout": ("dropout", nn.Dropout(0.5).train()),
    "random numbers": ("rand_like", lambda x: x + torch.rand_like(x)),
    "spectrum over time": ("fft_fft", lambda x: torch.fft.fft(x).abs()),
    "position within the piece": ("mul", lambda x: x * torch.linspace(1, 2, x.shape[-1])),
    "length of the piece": ("div", lambda x: x / x.shape[-1]),
    "columns that do not divide": ("unflatten", lambda x: x.unflatten(-1, (-1, 2)).mean(-1)),
    "without its first column": ("getitem", lambda x: x[..., 1:]),
    "every second column": ("getitem", lambda x: x[..., ::2]),
    "products of columns": ("matmul", lambda x: x.transpose(1, 2) @ x),
    "joined over time": ("cat", lambda x: torch.cat([x, x], -1)),
    "squeezed": ("squeeze", lambda x: x.squeeze()),
    "assigned": ("setitem", filled),
    "changed in place by what looks ahead": ("add_", shifted_in_place),
    "circular padding": ("pad", lambda x: F.pad(x, (1, 0), mode="circular")),
    "filters that change over time": ("conv1d", lambda x: F.conv1d(x[:1], x[:1].transpose(0, 1), None, 1, 1, 1, 4)),
    "constant": ("the result", lambda x: torch.zeros(2, 4, 7)),
}


@pytest.mark.parametrize("case", NOT_COLUMNWISE)
@pytest.mark.parametrize("lengths", [[1, 1, 1, 1, 1, 1, 30], [9, 7, 20], [36]])
def test_what_does_not_treat_columns_by_themselves_is_refused(case: str, lengths: list[int]) -> None:
    name, operation = NOT_COLUMNWISE[case]
    network = Chain(operation)
    state = {key: value.clone() for key, value in network.state_dict().items()}
    with torch.no_grad(), pytest.raises(VocoderError, match=rf"{name}.* piece by piece") as caught:
        in_pieces(network, signal(36), lengths)
    assert "docs/streaming.md" in str(caught.value)
    for key, value in network.state_dict().items():  # trying it has changed nothing
        assert torch.equal(value, state[key]) or key.endswith("num_batches_tracked")


COLUMNWISE: dict[str, Callable[[Tensor], Tensor]] = {
    "batch norm": nn.BatchNorm1d(4).eval(),
    "layer norm over channels": lambda x: F.layer_norm(x.transpose(1, 2), (4,)).transpose(1, 2),
    "softmax over channels": lambda x: x.softmax(1),
    "mean over channels": lambda x: x - x.mean(1, keepdim=True),
    "sorted channels": lambda x: x.sort(1).values,
    "largest channel": lambda x: x.max(1, keepdim=True).values + x,
    "index of the largest channel": lambda x: x * x.argmax(1, keepdim=True),
    "running sum over channels": lambda x: x.cumsum(1),
    "running sum over time": lambda x: torch.cumsum(x, 2),
    "windows over channels": lambda x: x.unfold(1, 4, 1).squeeze(1).transpose(1, 2),
    "interpolation by 1": nn.Upsample(scale_factor=1, mode="linear"),
    "nearest": nn.Upsample(scale_factor=3, mode="nearest"),
    "linear over channels": lambda x: (
        F.interpolate(x.transpose(1, 2), scale_factor=2, mode="linear").transpose(1, 2).unflatten(1, (4, 2)).mean(2)
    ),
    "in place": lambda x: F.leaky_relu_(x * 1),
    "a gain in place": lambda x: (x * 1).mul_(torch.linspace(1, 2, 4)[:, None]),
    "halves": lambda x: torch.cat([part.tanh() for part in x.chunk(2, 1)], 1),
    "double and back": lambda x: x.double().sin().float(),
    "whole numbers": lambda x: x.round().long().clamp(-2, 2).float() + x,
    "logarithm": lambda x: x.abs().clamp_min(1e-5).log(),
    "undefined in part": lambda x: torch.nan_to_num(x.acos()),
    "infinite": lambda x: torch.where(x >= x.mean(1, keepdim=True), x, torch.full_like(x, -torch.inf)).softmax(1),
    "complex": lambda x: torch.view_as_real(torch.complex(x, -x) * 1j).sum(-1),
    "mirror": lambda x: F.pad(x, (3, 2), mode="reflect"),
    "same": nn.Conv1d(4, 4, 4, padding="same"),
    "shape": lambda x: x.reshape(x.shape[0], 2, 2, -1).flatten(1, 2) + x.new_zeros(1),
}


@pytest.mark.parametrize("case", COLUMNWISE)
@settings(max_examples=10, deadline=None)
@given(lengths=lengths)
def test_what_treats_columns_by_themselves_is_exact(case: str, lengths: list[int]) -> None:
    network, x = Chain(COLUMNWISE[case]), signal(sum(lengths) + 8)
    with torch.no_grad():
        joined = in_pieces(network, x, [8, *lengths])
        torch.testing.assert_close(joined, network(x), atol=1e-5, rtol=0)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_other_precisions(dtype: torch.dtype) -> None:
    network, x = Chain(nn.Sequential(nn.Conv1d(4, 4, 1), nn.GELU())).to(dtype), signal(40).to(dtype)
    with torch.no_grad():
        torch.testing.assert_close(in_pieces(network, x, [1, 30, 9]), network(x), atol=0.05, rtol=0)
    with pytest.raises(VocoderError, match="group_norm"):
        in_pieces(Chain(nn.GroupNorm(2, 4)).to(dtype), x, [1, 30, 9])


def test_autocast() -> None:
    network = Chain(nn.Sequential(nn.Conv1d(4, 4, 1), nn.GELU()))
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        joined = in_pieces(network, signal(40), [1, 30, 9])
        torch.testing.assert_close(joined, network(signal(40)), atol=0.05, rtol=0)
        with pytest.raises(VocoderError, match="softmax"):
            in_pieces(Chain(lambda x: x.softmax(-1)), signal(40), [1, 30, 9])


def test_shapes_without_values() -> None:
    network = Chain(nn.GELU()).to("meta")
    assert in_pieces(network, signal(40).to("meta"), [1, 30, 9]).shape == (2, 3, 40)


class Counting(nn.Module):
    """Counts how often it is evaluated."""

    def __init__(self) -> None:
        super().__init__()
        self.calls = 0

    def forward(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        self.calls += 1
        return x.sin() if y is None else x.sin() + y


def trials(model: Counting, owner: object | None, *pieces: Tensor) -> int:
    """How often the model is called beyond its two pieces."""
    before = model.calls
    network = Incremental(model, owner)
    for _ in range(2):
        network(*pieces)
    return model.calls - before - 2


def test_an_owner_is_verified_once_for_each_kind_of_signal() -> None:
    model = Counting()
    x = signal(5)
    assert trials(model, None, x) == 3  # three pieces on trial
    assert trials(model, None, x) == 3
    assert trials(model, model, x) == 3
    assert trials(model, model, x) == trials(model, model, x[..., :1]) == 0
    assert trials(model, model, x, x) == 3
    assert trials(model, model, x.double()) == trials(model, model, x[:1]) == 3
    assert trials(model, model, x) == trials(model, model, x, x) == trials(model, model, x.double()) == 0
    model.train(False)
    assert trials(model, model, x) == 3
    reference = weakref.ref(model)
    del model
    gc.collect()
    assert reference() is None  # what is remembered keeps nobody alive


def test_owners_may_serve_several_functions() -> None:
    owner, x = Counting(), signal(9)
    for function in (torch.sin, torch.cos, nn.GELU(), torch.sin):
        network = Incremental(lambda x, function=function: function(x), owner)
        torch.testing.assert_close(network(x), function(x))
    with pytest.raises(VocoderError, match="softmax"):
        Incremental(lambda x: x.softmax(-1), owner)(x)


def test_pieces_may_be_empty_at_first_and_are_checked_nevertheless() -> None:
    x = signal(9)
    network = Incremental(lambda x: x / (1 + x.shape[-1]))
    assert network(x[..., :0]).shape == network(x[..., :0]).shape == (2, 3, 0)
    with pytest.raises(VocoderError, match="div"):
        network(x)
    with pytest.raises(VocoderError, match="flip"):
        Incremental(lambda x: x.flip(-1))(x[..., :0])


def test_the_random_numbers_of_others_are_left_alone() -> None:
    torch.manual_seed(0)
    expected = torch.rand(3)
    torch.manual_seed(0)
    Incremental(Branches().eval())  # drawing initial weights
    torch.manual_seed(0)
    Incremental(lambda x: x.sin())(signal(4))
    assert torch.equal(torch.rand(3), expected)


@pytest.mark.parametrize("pad", [(1, 1, 1, 1), (0, -1)])
def test_paddings_without_a_rule_are_refused(pad: tuple[int, ...]) -> None:
    with pytest.raises(VocoderError, match=rf"padding by {re.escape(str(pad))}"):
        Incremental(lambda x: F.pad(x, pad))(signal(9))
    with pytest.raises(VocoderError, match="more is cut off at the end than windows overlap"):
        Incremental(nn.ConvTranspose1d(3, 3, 4, 4, padding=1))(signal(9))


def test_a_last_piece_shorter_than_what_is_cut_off_is_refused() -> None:
    """What is cut off has been returned already."""
    with pytest.raises(VocoderError, match=r"'trim' .* more is cut off at the end than the last piece has"):
        in_pieces(lambda x: trim(x, 0, 2), signal(9), [5, 4])


def test_operations_that_change_between_pieces_are_refused() -> None:
    def function(x: Tensor) -> Tensor:
        return x.sin() if calls % 2 else x.cos()

    calls = 0
    network = Incremental(function)
    network(signal(4))
    calls = 1
    with pytest.raises(VocoderError, match="sin where cos was before"):
        network(signal(4))


def test_time_must_be_the_last_axis_of_the_result() -> None:
    with pytest.raises(VocoderError, match="time must be the last axis"):
        Incremental(lambda x: x.transpose(1, 2))(signal(4))
