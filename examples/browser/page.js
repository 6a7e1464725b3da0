/** The page: what is dropped on it becomes audio and pictures. */

import { readMel } from "./mels.js";
import { openVocoder } from "./vocoder.js";

const FOLDER = new URL("built", import.meta.url).href;
const $ = (id) => document.getElementById(id);
let runs = 0; // the number of the newest run; older ones stop
let running = Promise.resolve();

function say(text, wrong = false) {
  $("status").textContent = text;
  $("status").className = wrong ? "wrong" : "";
}

function showProgress(done, total) {
  $("progress").hidden = done === total;
  $("progress").value = done / total;
}

const opening = openVocoder(FOLDER, (loaded, total) => {
  showProgress(loaded, total);
  say(`loading the model: ${(loaded / 1e6).toFixed(1)} of ${(total / 1e6).toFixed(1)} MB`);
});

/** A WAV file of 16 bit. */
function encodeWav(pieces, rate) {
  const quantize = (value) => Math.round(32767 * Math.max(-1, Math.min(1, value)));
  const samples = pieces.map((piece) => Int16Array.from(piece, quantize));
  const bytes = samples.reduce((sum, piece) => sum + piece.byteLength, 0), header = new DataView(new ArrayBuffer(44));
  [..."RIFF    WAVEfmt ".padEnd(36), ..."data"].forEach((letter, i) => header.setUint8(i, letter.charCodeAt(0)));
  [[4, 36 + bytes], [16, 16], [20, 0x10001], [24, rate], [28, 2 * rate], [32, 0x100002], [40, bytes]]
    .forEach(([at, value]) => header.setUint32(at, value, true));
  return new Blob([header, ...samples], { type: "audio/wav" });
}

/** Draws a mel, low frequencies at the bottom, from black, 12 nepers below loud speech, over red to white. */
function drawMel(canvas, { bands, frames, values }, { mel_norm, power, log }) {
  const step = Math.ceil(frames / 4000); // the width of a canvas is limited
  const unit = power / (log === "log10" ? Math.LN10 : 1), low = (mel_norm === "slaney" ? -10.5 : -7) * unit;
  const image = new ImageData(Math.ceil(frames / step), bands);
  for (let band = 0; band < bands; band++) {
    for (let t = 0; t < image.width; t++) {
      const x = (values[band * frames + t * step] - low) / (12 * unit);
      const blue = 0.35 * Math.sin(Math.PI * Math.min(1, 1.6 * x)) + Math.max(0, 3 * x - 2);
      const shade = [1.7 * x, 1.5 * x - 0.45, blue, 1].map((c) => 255 * c); // the array clamps them
      image.data.set(shade, 4 * ((bands - 1 - band) * image.width + t));
    }
  }
  [canvas.width, canvas.height] = [image.width, bands];
  canvas.getContext("2d").putImageData(image, 0, 0);
}

/** Draws the lowest and the highest sample of each column. */
function drawWave(canvas, pieces) {
  const total = pieces.reduce((sum, piece) => sum + piece.length, 0), pen = canvas.getContext("2d");
  const low = new Float32Array(canvas.width), high = new Float32Array(canvas.width);
  let at = 0;
  for (const piece of pieces) {
    for (const value of piece) {
      const x = Math.floor((at++ * canvas.width) / total);
      if (value < low[x]) low[x] = value;
      else if (value > high[x]) high[x] = value;
    }
  }
  pen.clearRect(0, 0, canvas.width, canvas.height);
  pen.fillStyle = "#d04030";
  const unit = canvas.height / 2;
  low.forEach((value, x) => pen.fillRect(x, unit * (1 - high[x]), 1, Math.max(1, unit * (high[x] - value))));
}

async function show(file, run) {
  $("input").hidden = $("output").hidden = true;
  $("player").pause();
  const { facts, synthesize } = await opening, { sample_rate, hop_length } = facts.mel_config;
  const mel = await readMel(new Uint8Array(await file.arrayBuffer()), file.name, facts);
  if (run !== runs) return;
  drawMel($("mel"), mel, facts.mel_config);
  $("input").querySelector("span").textContent = `${file.name}, ${mel.bands} bands × ${mel.frames} frames`;
  $("input").hidden = false;
  say("synthesising …");
  const begin = performance.now(), pieces = [], all = mel.frames * hop_length;
  let samples = 0;
  for await (const piece of synthesize(mel)) {
    if (run !== runs) return;
    pieces.push(piece);
    showProgress((samples += piece.length), all);
  }
  const seconds = (performance.now() - begin) / 1000, length = samples / sample_rate;
  URL.revokeObjectURL($("player").src);
  $("player").src = $("save").href = URL.createObjectURL(encodeWav(pieces, sample_rate));
  $("save").download = file.name.replace(/\.np[yz]$/i, "") + ".wav";
  drawWave($("wave"), pieces);
  $("output").hidden = false;
  say(`${length.toFixed(2)} s of audio in ${seconds.toFixed(2)} s: ${(length / seconds).toFixed(1)} x real time` +
    (mel.warning && `; ${mel.warning}`));
  document.body.dataset.done = run;
}

/** Starts a run once the older one has stopped: the model does one thing at a time. */
function start(getFile) {
  const run = ++runs;
  running = running.then(async () => run === runs && (await show(await getFile(), run))).catch((error) => {
    if (run === runs) say(error.message, true);
    $("progress").hidden = true;
  });
}

async function example() {
  const { facts } = await opening, response = await fetch(`${FOLDER}/${facts.example}`);
  return new File([await response.blob()], facts.example);
}

$("file").addEventListener("change", () => $("file").files.length && start(() => $("file").files[0]));
$("example").addEventListener("click", () => start(example));
document.addEventListener("dragover", (event) => {
  event.preventDefault();
  $("drop").classList.add("over");
});
document.addEventListener("dragleave", () => $("drop").classList.remove("over"));
document.addEventListener("drop", (event) => {
  event.preventDefault();
  $("drop").classList.remove("over");
  const [file] = event.dataTransfer.files;
  if (file) start(() => file);
});
opening.then(({ facts }) => runs || say(`ready: ${facts.name}, for mels of ${facts.mel_config_name}`))
  .catch((error) => say(error.message, true));
