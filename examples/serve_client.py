"""A client of a running server: vocoders serve & python examples/serve_client.py tests/data/hello.npz out.wav

It uses HTTP for a whole mel, and a WebSocket for one that arrives piece by piece. docs/serving.md describes both.
"""

import json
import sys
import threading
import urllib.request
from pathlib import Path

import numpy as np
import soundfile
from websockets.sync.client import ClientConnection, connect

CHUNK = 20  # frames


def synthesise(address: str, mel_file: str, sound_file: str) -> None:
    """Send a mel file as it is; an .npz states its mel config."""
    body = Path(mel_file).read_bytes()
    request = urllib.request.Request(f"http://{address}/synthesize?format=wav&seed=1", body)
    with urllib.request.urlopen(request) as response:
        if warning := response.headers.get("Mel-Warning"):
            print(warning)
        Path(sound_file).write_bytes(response.read())


def send(connection: ClientConnection, mel: np.ndarray) -> None:
    """Send frames as an acoustic model would make them: little-endian float32, one frame after the other."""
    for begin in range(0, mel.shape[1], CHUNK):
        connection.send(np.ascontiguousarray(mel[:, begin : begin + CHUNK].T, "<f4").tobytes())
    connection.send("end")


def stream(address: str, mel: np.ndarray, sound_file: str) -> None:
    """Send frames and write the audio that is received, at the same time."""
    with connect(f"ws://{address}/stream?mel_config=hifigan-22k") as connection:
        opening = json.loads(connection.recv())  # sample_rate, n_mels, lookahead
        sender = threading.Thread(target=send, args=[connection, mel])
        sender.start()
        with soundfile.SoundFile(sound_file, "w", opening["sample_rate"], 1) as output:
            for message in connection:
                if isinstance(message, str):  # an error, as JSON with "detail"
                    raise SystemExit(message)
                output.write(np.frombuffer(message, "<i2"))
        sender.join()


def main(mel_file: str, sound_file: str, address: str = "127.0.0.1:8000") -> None:
    with urllib.request.urlopen(f"http://{address}/models") as response:
        print("models:", ", ".join(model["name"] for model in json.load(response)))
    synthesise(address, mel_file, sound_file)
    with np.load(mel_file) as file:
        stream(address, file["mel"], str(Path(sound_file).with_suffix(".stream.wav")))


if __name__ == "__main__":
    main(*sys.argv[1:4])
