/** Mels of another mel config than the model's, as vocoders/dsp/adaptation.py treats them. */

const PASSES = 2, BEYOND = 3, SMALLEST = 1e-12; // as there
const EXACT = ["log", "floor"]; // fields whose differences are converted exactly

/** Lists the fields in which two mel configs differ: "hop_length 300 against 256, ..."; "" for none. */
export function differences(source, target) {
  const keys = Object.keys(target).filter((key) => source[key] !== target[key]);
  return keys.map((key) => `${key} ${source[key]} against ${target[key]}`).join(", ");
}

/** Whether mels of `source` become mels of `target` exactly. */
export function converts(source, target) {
  return Object.keys(target).every((key) => source[key] === target[key] || EXACT.includes(key));
}

/** Makes a mel of `target` of one of `source`: exactly where `converts`, else approximately. */
export function adaptMel({ bands, frames, values }, source, target) {
  const unit = (config) => (config.log === "log10" ? Math.LN10 : 1) / config.power; // to nepers
  const toLog = (value, { log, floor }) => (log === "log10" ? Math.log10 : Math.log)(Math.max(value, floor));
  if (converts(source, target)) {
    const factor = unit(source) / unit(target), least = toLog(0, target);
    return { bands, frames, values: values.map((value) => Math.max(value * factor, least)) };
  }
  const transform = approximation(source, target);
  const step = (target.hop_length / target.sample_rate) * (source.sample_rate / source.hop_length);
  const count = Math.ceil(frames / step - 1e-9), out = new Float32Array(target.n_mels * count);
  const given = new Float64Array(bands);
  for (let t = 0; t < count; t++) {
    const at = Math.max(0, Math.min(frames - 1, (t + 0.5) * step - 0.5)), left = Math.floor(at);
    const right = Math.min(left + 1, frames - 1), share = at - left;
    for (let band = 0; band < bands; band++) {
      const [a, b] = [values[band * frames + left], values[band * frames + right]];
      given[band] = (a * (1 - share) + b * share) * unit(source);
    }
    transform(given).forEach((value, band) => (out[band * count + t] = toLog(value, target)));
  }
  return { bands: target.n_mels, frames: count, values: out };
}

/** Returns a function from the levels of the source's bands, in nepers, to the target's linear mel, for one frame. */
function approximation(source, target) {
  const bins = frequencies(target), size = bins.length, edges = corners(source), centres = edges.slice(1, -1);
  const places = bins.map((hz) => place(hz, centres)); // between which bands a bin lies
  const own = filters(source, frequencies(source)), wide = filters(source, bins);
  wide.forEach((filter, band) => {
    if (sum(filter) > 0) return;
    places.forEach(([left, share], bin) => {
      filter[bin] = (left === band ? 1 - share : 0) + (left + 1 === band ? share : 0);
    });
  });
  wide.forEach((filter, band) => {
    const factor = Math.max(sum(own[band]), 1e-8) / Math.max(sum(filter), SMALLEST);
    filter.forEach((weight, bin) => (filter[bin] = weight * factor));
  });
  const gathering = wide.map(compact), last = filters(target, bins).map(compact);
  const longer = (target.win_length * target.sample_rate) / (source.win_length * source.sample_rate);
  const gain = bins.map((hz) => Math.log(longer) / 2 - (hz > source.fmax ? BEYOND : 0));
  const log = new Float64Array(size), linear = new Float64Array(size), missing = new Float64Array(centres.length);
  return (given) => {
    log.fill(0);
    for (let pass = 0; pass <= PASSES; pass++) {
      gather(gathering, log, source.power, linear).forEach((value, band) => {
        const lack = given[band] - Math.log(Math.max(value, SMALLEST)) / source.power;
        missing[band] = pass ? Math.max(-1, Math.min(1, lack)) : lack;
      });
      places.forEach(([left, share], bin) => {
        log[bin] += missing[left] * (1 - share) + (share && missing[left + 1] * share);
      });
    }
    gain.forEach((value, bin) => (log[bin] += value));
    return gather(last, log, target.power, linear);
  };
}

function gather(bank, log, power, linear) {
  log.forEach((value, bin) => (linear[bin] = Math.exp(power * value)));
  return bank.map(({ first, weights }) => weights.reduce((total, weight, i) => total + weight * linear[first + i], 0));
}

/** The weights of a filter without the zeros around them. */
function compact(filter) {
  const first = Math.max(0, filter.findIndex((weight) => weight));
  return { first, weights: filter.slice(first, filter.findLastIndex((weight) => weight) + 1) };
}

const sum = (values) => values.reduce((total, value) => total + value, 0);

/** The frequencies of the bins of an STFT in Hz. */
function frequencies({ n_fft, sample_rate }) {
  return Array.from({ length: n_fft / 2 + 1 }, (_, bin) => (bin * sample_rate) / n_fft);
}

/** The band whose centre is below a frequency, and the share of the next one. */
function place(hz, centres) {
  const next = centres.findIndex((centre) => centre > hz);
  if (next === 0) return [0, 0];
  if (next < 0) return [centres.length - 1, 0];
  return [next - 1, (hz - centres[next - 1]) / (centres[next] - centres[next - 1])];
}

/** The corners of the filters in Hz. */
function corners({ n_mels, fmin, fmax, mel_scale }) {
  const log = Math.log(6.4), htk = mel_scale === "htk";
  const toMel = (hz) => (htk ? 2595 * Math.log10(1 + hz / 700) :
    hz < 1000 ? (hz * 3) / 200 : 15 + (27 * Math.log(hz / 1000)) / log);
  const toHz = (mel) => (htk ? 700 * (10 ** (mel / 2595) - 1) :
    mel < 15 ? (mel * 200) / 3 : 1000 * Math.exp(((mel - 15) / 27) * log));
  const low = toMel(fmin), width = (toMel(fmax) - low) / (n_mels + 1);
  return Array.from({ length: n_mels + 2 }, (_, i) => toHz(low + i * width));
}

/** The triangular filters of a mel config at some frequencies. */
function filters(config, hertz) {
  const edges = corners(config);
  return edges.slice(0, -2).map((low, i) => {
    const [middle, high] = [edges[i + 1], edges[i + 2]], area = config.mel_norm === "slaney" ? 2 / (high - low) : 1;
    return hertz.map((hz) => area * Math.max(0, Math.min((hz - low) / (middle - low), (high - hz) / (high - middle))));
  });
}
