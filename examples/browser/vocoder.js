/** An exported model, run by ONNX Runtime Web: vocoders/onnx/vocoder.py in the browser. */

const CHUNK_FRAMES = 512; // synthesised at once; they, not the length of the mel, set the memory of a pass

/**
 * Opens the model that prepare.py has put into `folder`. `progress(loaded, total)` is told the bytes that have come.
 *
 * Returns facts about the model, and `synthesize(mel, noise, chunkFrames)`: an async generator of the audio in pieces,
 * the same whatever their length. `mel` is what readMel returns, `noise(start, stop)` returns standard normal samples.
 */
export async function openVocoder(folder, progress) {
  const facts = await (await get(`${folder}/model.json`)).json();
  const files = Object.keys(facts.files), loaded = files.map(() => 0), sum = (a, b) => a + b;
  const [model, wasm] = await Promise.all(files.map((file, i) => download(`${folder}/${file}`, (count) => {
    loaded[i] += count;
    progress(loaded.reduce(sum), Object.values(facts.files).reduce(sum));
  })));
  const ort = await import(`${folder}/ort.wasm.min.mjs`);
  ort.env.wasm.proxy = true; // in a worker, so that the page stays responsive
  ort.env.wasm.wasmPaths = `${folder}/`;
  ort.env.wasm.wasmBinary = wasm.buffer;
  // 3: errors. It would warn of the inputs with defaults, which a stream sets and this page does not.
  const session = await ort.InferenceSession.create(model, { executionProviders: ["wasm"], logSeverityLevel: 3 });
  return { facts, synthesize: (...inputs) => synthesize(ort, session, facts, ...inputs) };
}

async function* synthesize(ort, session, facts, mel, noise = normalNoise, chunkFrames = CHUNK_FRAMES) {
  const { n_mels, hop_length: hop, sample_rate } = facts.mel_config, { frames } = mel;
  const context = facts.lookahead, f0Context = facts.estimator_lookahead;
  const f0 = new Float32Array(frames).fill(-1); // Hz; negative where it is to be estimated
  let first = 0, phase = 0; // of the first harmonic at the frame `first`, in cycles
  for (let begin = 0; begin < frames; begin += chunkFrames) {
    // The audio of `begin` to `end` depends on F0 up to `known`, and that on the mel up to `stop`.
    const end = Math.min(begin + chunkFrames, frames), known = Math.min(end + context, frames);
    const stop = Math.min(known + f0Context, frames);
    const start = Math.max(0, begin - Math.max(context, f0Context - context));
    for (; first < start; first++) phase = (phase + (f0[first] * hop) / sample_rate) % 1;
    const window = new Float32Array(n_mels * (stop - start));
    for (let band = 0; band < n_mels; band++) {
      window.set(mel.values.subarray(band * frames + start, band * frames + stop), band * (stop - start));
    }
    const { audio, used_f0 } = await session.run({
      mel: new ort.Tensor("float32", window, [1, n_mels, stop - start]),
      f0: new ort.Tensor("float32", f0.slice(start, stop), [1, 1, stop - start]),
      noise: new ort.Tensor("float32", noise(start * hop, stop * hop), [1, 1, (stop - start) * hop]),
      phase: new ort.Tensor("float64", Float64Array.of(phase), [1, 1, 1]),
    }, ["audio", "used_f0"]);
    f0.set(used_f0.data.subarray(0, known - start), start);
    const piece = audio.data.slice((begin - start) * hop, (end - start) * hop);
    if (!piece.every(Number.isFinite)) throw new Error("the audio is not finite: the mel is out of all range");
    yield piece;
  }
}

/** Standard normal noise, float32: a function of the sample's number, so that the context of a piece has it again. */
export function normalNoise(start, stop) {
  const uniform = (number) => {
    number = Math.imul(number ^ (number >>> 16), 0x7feb352d); // "lowbias32", Wellons 2018
    number = Math.imul(number ^ (number >>> 15), 0x846ca68b);
    return (((number ^ (number >>> 16)) >>> 0) + 0.5) / 2 ** 32;
  };
  return Float32Array.from({ length: stop - start }, (_, i) =>
    Math.sqrt(-2 * Math.log(uniform(2 * (start + i)))) * Math.cos(2 * Math.PI * uniform(2 * (start + i) + 1)));
}

async function get(address) {
  const response = await fetch(address);
  if (!response.ok) throw new Error(`${address}: status ${response.status}; run prepare.py, see README.md`);
  return response;
}

async function download(address, count) {
  const parts = [];
  for (let reader = (await get(address)).body.getReader(), part; !(part = await reader.read()).done; ) {
    parts.push(part.value);
    count(part.value.length);
  }
  return new Uint8Array(await new Blob(parts).arrayBuffer());
}
