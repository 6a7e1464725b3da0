/** Mel files: .npy, and .npz as numpy and vocode write them. */

import { adaptMel, converts, differences } from "./adapt.js";

/**
 * Decodes a mel file for a model, of which `facts` are known (built/model.json): float32 values, band after band. The
 * mel of an .npz that states another mel config is adapted.
 * Throws an Error of one sentence that says what is wrong with the file and what to do.
 */
export async function readMel(bytes, name, facts) {
  const parts = bytes[0] === 0x50 && bytes[1] === 0x4b ? await unzip(bytes, name) : { "mel.npy": bytes };
  const stored = parts["mel_config.npy"] && readConfig(readNpy(parts["mel_config.npy"], name), name);
  const config = { ...facts.mel_config, ...stored };
  const { type, transposed, shape, data } = readNpy(parts["mel.npy"], name);
  const expected = config.n_mels, got = `(${shape.join(", ")}${shape.length === 1 ? "," : ""})`;
  const check = (right, wrong) => refuse(right, `${name} ${wrong}`);
  check(type === "<f4", `holds values of type '${type}', the model takes float32 ('<f4'): save mel.astype("<f4")`);
  check(shape.length === 2, `has shape ${got}, a mel has (${expected}, frames): save one mel, without further axes`);
  const [bands, frames] = shape;
  const hint = frames === expected ? "it looks transposed: save mel.T" : `use the mel config ${facts.mel_config_name}`;
  check(bands === expected, `has ${bands} bands, the model expects ${expected}: its shape is ${got}; ${hint}`);
  check(frames > 0, `is empty: its shape is ${got}; save a mel of one frame or more`);
  let values = new Float32Array(data.slice().buffer);
  if (transposed) values = Float32Array.from(values, (_, i) => values[(i % frames) * bands + Math.floor(i / frames)]);
  const wrong = values.reduce((count, value) => count + !Number.isFinite(value), 0);
  check(!wrong, `holds ${wrong} NaN or infinite values of ${values.length}: was the logarithm of 0 taken?`);
  if (!stored) return { bands, frames, values, warning: warn(values, facts) };
  const approximated = `the mel is approximated for the model: ${differences(config, facts.mel_config)}`;
  const warning = converts(config, facts.mel_config) ? "" : approximated;
  return { ...adaptMel({ bands, frames, values }, config, facts.mel_config), warning };
}

/**
 * Says that the values are on another scale than natural logarithms of a mel config, by their smallest, which is -5 or
 * less in any recording, and by the floor; or returns "".
 */
function warn(values, { mel_config: { log, floor, mel_norm, power }, mel_config_name: name }) {
  if (log !== "ln" || mel_norm !== "slaney" || power !== 1) return "";
  const [low, high] = values.reduce(([a, b], value) => [Math.min(a, value), Math.max(b, value)], [Infinity, -Infinity]);
  const line = (code) => `; save np.save("mel.npy", ${code})`;
  let kind = "";
  if (low < Math.min(Math.log(floor), -20) - 0.5) kind = `decibels${line("mel * 0.1151293")}`;
  else if (low >= 0 && high > 2) kind = `a linear mel${line(`np.log(np.maximum(mel, ${floor}))`)}`;
  else if (low > -5 - 1e-3 && low < -4.9) kind = `log10${line("mel * 2.302585")}`;
  else if (low > -5) kind = `a normalised mel${line("mel * std + mean")}`;
  return kind && `values from ${low.toFixed(2)} to ${high.toFixed(2)} are unusual for ${name}: it looks like ${kind}`;
}

function refuse(right, sentence) {
  if (!right) throw new Error(sentence);
}

/** Decodes the header of a .npy file. */
function readNpy(bytes, name) {
  const pickled = `${name} holds pickled Python objects, which are never loaded; save a plain float32 array`;
  refuse(bytes[0] !== 0x80, pickled);
  const latin1 = (begin, end) => new TextDecoder("latin1").decode(bytes.subarray(begin, end));
  refuse(bytes.length > 12 && latin1(1, 6) === "NUMPY", `${name} is neither .npy nor .npz; save it with numpy.save`);
  const view = new DataView(bytes.buffer, bytes.byteOffset), long = bytes[6] > 1;
  const begin = (long ? 12 : 10) + (long ? view.getUint32(8, true) : view.getUint16(8, true));
  const header = latin1(10, begin), field = (pattern) => (header.match(pattern) || [])[1] || "";
  const type = field(/'descr': '([^']*)'/) || "a record";
  refuse(!type.includes("O"), pickled);
  const shape = field(/'shape': \(([\d, ]*)\)/).split(",").filter((size) => size.trim()).map(Number);
  const width = Number(field(/'descr': '..(\d+)'/)) * (type[1] === "U" ? 4 : 1);
  const claimed = shape.reduce((product, size) => product * size, width), held = Math.max(0, bytes.length - begin);
  const counts = `its header claims ${claimed} bytes of data, it holds ${held}`;
  refuse(!width || claimed === held, `${name} is not whole: ${counts}; copy or save it again`);
  return { type, transposed: header.includes("'fortran_order': True"), shape, data: bytes.subarray(begin) };
}

/** Decodes the mel config that an .npz carries. */
function readConfig({ data }, name) {
  const text = new TextDecoder("utf-16le").decode(data.filter((_, i) => i % 4 < 2)); // of numpy's UTF-32
  try {
    return { ...JSON.parse(text) };
  } catch {
    refuse(false, `the mel config stored in ${name} is not JSON; save the file again`);
  }
}

/** Unpacks the arrays "mel" and "mel_config" of an .npz file. */
async function unzip(bytes, name) {
  const view = new DataView(bytes.buffer, bytes.byteOffset), names = [], parts = {};
  try {
    let end = bytes.length - 22;
    while (view.getUint32(end, true) !== 0x06054b50) end--; // the directory's end; RangeError where there is none
    let at = view.getUint32(end + 16, true);
    for (let left = view.getUint16(end + 10, true); left > 0; left--) {
      const lengths = [28, 30, 32].map((offset) => view.getUint16(at + offset, true)); // of name, extra and comment
      const key = new TextDecoder().decode(bytes.subarray(at + 46, at + 46 + lengths[0]));
      const local = view.getUint32(at + 42, true), method = view.getUint16(at + 10, true);
      const begin = local + 30 + view.getUint16(local + 26, true) + view.getUint16(local + 28, true);
      const packed = bytes.subarray(begin, begin + view.getUint32(at + 20, true));
      names.push(key.replace(/\.npy$/, ""));
      if (key === "mel.npy" || key === "mel_config.npy") parts[key] = method === 8 ? await inflate(packed) : packed;
      at += lengths.reduce((sum, length) => sum + length, 46);
    }
  } catch {
    refuse(false, `${name} is damaged or cut off: its ${bytes.length} bytes are no whole .npz file; save it again`);
  }
  const others = names.join(", ") || "nothing";
  refuse(parts["mel.npy"], `${name} holds no array named 'mel', only: ${others}; save it with savez(file, mel=mel)`);
  return parts;
}

async function inflate(packed) {
  const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("deflate-raw"));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}
