// The painter inside the browser: the same face as server_engine.js. The network itself runs in browser_worker.js.

import { asFile } from "./pixels.js";

const MOST_PIXELS = 16_000_000; // of a picture that is saved; phones have no larger canvas
const MOST_PAINTED = 2_000_000; // of a picture as the network sees it; only panoramas have more
const SMALLEST = 16; // side in pixels

export class BrowserEngine {
  constructor() {
    this.worker = new Worker(new URL("browser_worker.js", import.meta.url), { type: "module" });
    this.waiting = new Map(); // [resolve, reject] by the number of what was asked
    this.asked = 0;
    this.vectors = new Map(); // styles, by id
    this.own = 0;
    this.worker.addEventListener("message", ({ data: { id, result, error } }) => {
      const [resolve, reject] = this.waiting.get(id);
      this.waiting.delete(id);
      if (error === undefined) resolve(result);
      else reject(new Error(error));
    });
    this.worker.addEventListener("error", (event) => { // it cannot start, or has no memory left
      for (const [, reject] of this.waiting.values()) reject(new Error(event.message || "it does not start"));
    });
    this.card = fetch("model/card.json").then((reply) => reply.json());
    const wanted = new URLSearchParams(location.search).get("engine");
    this.opened = this.card.then((card) => this.ask("open", { card, wanted }))
      .catch((error) => { throw new Error(`The painter could not be loaded: ${error.message}`); });
    this.opened.catch(() => {}); // told to whoever asks for a picture
  }

  /** Let the worker do something. */
  ask(task, given) {
    const id = ++this.asked;
    this.worker.postMessage({ id, task, given });
    return new Promise((...ends) => this.waiting.set(id, ends));
  }

  /** Which model paints, and on what, and how fast. */
  async about() {
    const { name, version } = await this.card;
    const { engine, threads, paintMs } = await this.opened;
    const on = engine === "webgpu" ? "WebGPU" : `WASM, ${threads} thread${threads > 1 ? "s" : ""}`;
    const rate = 1000 / paintMs;
    return `${name} ${version} in this browser (${on}): ${rate < 10 ? rate.toFixed(1) : Math.round(rate)} pictures a second at 256 × 256`;
  }

  /** The gallery: [{id, title, author, year, thumbnail}]. */
  async gallery() {
    const { styles, style_size: size } = await this.card;
    const vectors = new Float32Array(await (await fetch("model/styles.bin")).arrayBuffer());
    styles.forEach(({ id }, index) => this.vectors.set(id, vectors.subarray(index * size, (index + 1) * size)));
    return styles;
  }

  /** Read the style of a picture; returns its id. */
  async addStyle(file) {
    const { style_side: side } = await this.card;
    const whole = await createImageBitmap(file).catch(() => { throw new Error(UNREADABLE); });
    const picture = this.keep(drawn(whole, this.finishedSize(whole.width, whole.height), "#fff"));
    await this.opened;
    const vector = await this.ask("encode", { picture, side });
    const id = `own-${++this.own}`;
    this.vectors.set(id, vector);
    return id;
  }

  async read() {
    throw new Error(UNREADABLE);
  }

  /** A small copy of a photograph, on a canvas, in the form that `paint` takes. */
  keep(canvas) {
    return canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
  }

  /** The size of the download of a photograph. */
  finishedSize(width, height) {
    const scale = Math.min(1, Math.sqrt(MOST_PIXELS / (width * height)));
    return [Math.max(1, Math.floor(width * scale)), Math.max(1, Math.floor(height * scale))];
  }

  /** Paint a small copy: {picture, paintMs}. */
  async paint(photo, mix, options, statistics) {
    const { painted, own, paintMs } = await this.run(photo, mix, options, statistics);
    return { picture: await createImageBitmap(new ImageData(painted.data, painted.width, painted.height)), own, paintMs };
  }

  /** Paint a photograph at full size, as a file of the format. */
  async finish(file, mix, options, format) {
    const whole = await createImageBitmap(file);
    const canvas = drawn(whole, this.finishedSize(whole.width, whole.height));
    const { painted } = await this.run(this.keep(canvas), mix, options);
    return asFile(painted, format);
  }

  /** Begin to paint moving pictures. */
  async openCamera() {
    await this.opened;
    const { calm, new_scene: newScene } = await this.card;
    return new BrowserCamera(this, calm, newScene);
  }

  async run(photo, mix, { strength, keep_colors: keepColors, work_size: side = Infinity }, statistics) {
    await this.opened;
    const { width, height } = photo;
    if (Math.min(width, height) < SMALLEST) throw new Error(`The photograph must have at least ${SMALLEST} pixels a side.`);
    const scale = Math.sqrt(MOST_PAINTED / (width * height));
    const bounded = Math.min(side, Math.floor(scale * Math.min(width, height)));
    return this.ask("paint", { photo, style: this.mixed(mix), strength, keepColors: Boolean(keepColors), side: bounded, statistics });
  }

  /** The weighted mean of styles. */
  mixed(mix) {
    const total = mix.reduce((sum, { weight }) => sum + weight, 0);
    const vectors = mix.map(({ id, weight }) => [this.vectors.get(id), weight / total]);
    return vectors[0][0].map((_, index) => vectors.reduce((sum, [vector, share]) => sum + share * vector[index], 0));
  }
}

const UNREADABLE = "This browser cannot read this file as a picture.";

/** Camera pictures, with statistics averaged over time so that colours do not pump. */
class BrowserCamera {
  closed = false;

  constructor(engine, calm, newScene) {
    Object.assign(this, { engine, calm, newScene });
  }

  async set(mix, options) {
    [this.mix, this.options] = [mix, options];
  }

  async paint(canvas) {
    const { picture, own } = await this.engine.paint(this.engine.keep(canvas), this.mix, this.options, this.mean);
    const before = this.mean;
    const anew = !before || norm(own.map((value, index) => value - before[index])) > this.newScene * norm(before);
    this.mean = anew ? own : before.map((value, index) => this.calm * value + (1 - this.calm) * own[index]);
    return picture;
  }

  close() {
    this.closed = true;
  }
}

const norm = (vector) => Math.hypot(...vector);

/** A canvas with a picture at some size, on a background. */
function drawn(picture, [width, height], background = "transparent") {
  const canvas = new OffscreenCanvas(width, height);
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.imageSmoothingQuality = "high";
  context.fillStyle = background;
  context.fillRect(0, 0, width, height);
  context.drawImage(picture, 0, 0, width, height);
  return canvas;
}
