// Runs the network with onnxruntime-web, in a thread of its own: on WebGPU where there is a graphics card, else as WASM.

import { enlarge } from "./enlarge.js";
import { fromPlanes, keepLuminance, toPlanes } from "./pixels.js";
import { fitShortSide, resize } from "./resize.js";

const MODEL = new URL("../model/", import.meta.url);
const RUNTIME = new URL("../onnxruntime-web/", import.meta.url);
const TRIAL_SIDE = 256, TRIALS = 4, TRIAL_MS = 1000;

let ort, kind, painter, encoder, sites;

/** Load the network and try how fast it is: {engine, threads, paintMs}. */
async function open({ card, wanted }) {
  sites = card.sites;
  const gpu = wanted !== "wasm" && (await navigator.gpu?.requestAdapter().catch(() => null));
  // A fallback adapter is the processor in disguise, and far slower than WASM.
  if (gpu && (wanted === "webgpu" || !gpu.info?.isFallbackAdapter)) {
    try {
      return await start("webgpu", card.style_size);
    } catch {} // a card or driver that cannot do it
  }
  return start("wasm", card.style_size);
}

async function start(engine, styleSize) {
  kind = engine;
  ort = await import(`${RUNTIME}ort.${engine}.min.mjs`);
  ort.env.wasm.wasmPaths = RUNTIME.href;
  // Threads share memory, which a browser allows only to pages that its server isolates (COOP and COEP).
  const cores = navigator.hardwareConcurrency || 1;
  ort.env.wasm.numThreads = self.crossOriginIsolated ? Math.min(8, Math.max(2, Math.ceil(cores / 2))) : 1;
  painter = await session("stylizer.onnx");
  encoder = null;
  const trial = { data: new Uint8ClampedArray(4 * TRIAL_SIDE ** 2).fill(128), width: TRIAL_SIDE, height: TRIAL_SIDE };
  const times = [];
  for (let count = 0, began = performance.now(); count < TRIALS && performance.now() - began < TRIAL_MS; count++) {
    const asked = performance.now();
    await run(trial, new Float32Array(styleSize), 1);
    times.push(performance.now() - asked);
  }
  return { engine, threads: ort.env.wasm.numThreads, paintMs: Math.min(...times) };
}

function session(file) {
  const options = { executionProviders: [kind], logSeverityLevel: 3 }; // 3 = errors
  return ort.InferenceSession.create(new URL(file, MODEL).href, options);
}

const tensor = (data, ...shape) => new ort.Tensor("float32", data, shape);

/** One run of the network: {painted, own}; with `statistics` given, those are used instead of the picture's own. */
async function run(picture, style, strength, statistics) {
  const { width, height } = picture;
  const found = await painter.run({
    content: tensor(toPlanes(picture), 1, 3, height, width),
    style: tensor(style, 1, style.length),
    strength: tensor(new Float32Array([strength]), 1, 1),
    statistics: tensor(statistics || new Float32Array(2 * sites), 1, 2 * sites),
    given: tensor(new Float32Array([statistics ? 1 : 0]), 1, 1),
  });
  return { painted: fromPlanes(found.stylized.data, picture), own: found.own.data };
}

/** Paint a photograph, at `side` pixels of its shorter side where that is smaller: {painted, own, paintMs}. */
async function paint({ photo, style, strength, keepColors, side, statistics }) {
  const began = performance.now();
  const small = side < Math.min(photo.width, photo.height) ? resize(photo, ...fitShortSide(photo, side)) : photo;
  let { painted, own } = await run(small, style, strength, statistics);
  if (small !== photo) painted = enlarge(painted, small, photo);
  if (keepColors) keepLuminance(painted, photo);
  return { painted, own, paintMs: performance.now() - began };
}

/** Read the style of a picture: its vector. */
async function encode({ picture, side }) {
  encoder ||= await session("style_encoder.onnx");
  const shown = styleWindow(picture, side);
  const { style } = await encoder.run({ picture: tensor(toPlanes(shown), 1, 3, shown.height, shown.width) });
  return style.data;
}

/** What the style encoder is shown of a picture, as restyle/controls/window.py has it. */
function styleWindow(picture, side) {
  const repeats = Math.floor(side / (2 * Math.min(picture.width, picture.height)));
  if (repeats) picture = mirrored(resize(picture, ...fitShortSide(picture, Math.ceil(side / (repeats + 1)))), repeats + 1);
  const [width, height] = fitShortSide(picture, side);
  return resize(picture, Math.min(width, 4 * side), Math.min(height, 4 * side));
}

/** A small picture, repeated, every other time as in a mirror. */
function mirrored({ data, width, height }, times) {
  const source = new Uint32Array(data.buffer);
  const target = new Uint32Array(times * times * width * height);
  const reflect = (at, length) => (Math.floor(at / length) % 2 ? length - 1 - (at % length) : at % length);
  for (let y = 0, i = 0; y < times * height; y++) {
    for (let x = 0; x < times * width; x++, i++) target[i] = source[width * reflect(y, height) + reflect(x, width)];
  }
  return { data: new Uint8ClampedArray(target.buffer), width: times * width, height: times * height };
}

const tasks = { open, paint, encode };
let last = Promise.resolve(); // one thing at a time
addEventListener("message", ({ data: { id, task, given } }) => {
  last = last.then(async () => {
    try {
      const result = await tasks[task](given);
      postMessage({ id, result }, result.painted ? [result.painted.data.buffer] : []);
    } catch (error) {
      postMessage({ id, error: error.message });
    }
  });
});
