// The photograph's way: read, painted small at once, painted at full size for the download.

import { announce, clearProblem, showProblem } from "./say.js";
import { Stage } from "./stage.js";

// Short sides in pixels. The page paints a small copy; the download is painted at the same work size, so that it has
// the same strokes, and gets its detail back at full size.
const SHOWN = 720;
const WORK = { fine: 720, medium: 512, broad: 320 };

export class Photo {
  constructor(engine, styles, controls) {
    this.engine = engine;
    this.styles = styles;
    this.controls = controls;
    this.stage = new Stage();
    this.file = this.small = null;
    this.wanted = this.running = false;
    this.paintedAt = null; // the strength at which the engine has painted what is shown: 1, or more
    this.status = document.getElementById("photo-status");
    this.button = document.getElementById("download");
    this.button.addEventListener("click", () => this.download());
  }

  async open(file) {
    clearProblem();
    this.busy(true);
    try {
      const photo = await this.read(file);
      this.stage.show(photo);
      this.file = file;
      document.getElementById("photo-bar").hidden = false;
      document.getElementById("format").value = { "image/png": "png", "image/webp": "webp" }[file.type] || "jpeg";
      this.paintedAt = null;
      this.update();
    } catch (error) {
      showProblem(error);
    } finally {
      this.busy(this.running);
    }
  }

  /** A small copy to show and to paint; what the browser cannot read, the engine perhaps can. */
  async read(file) {
    let whole = await createImageBitmap(file).catch(() => null);
    const size = whole ? this.engine.finishedSize(whole.width, whole.height).join(" × ") : "full size";
    if (!whole) await this.styles.ready;
    whole ||= await this.engine.read(file, this.styles.mix, SHOWN);
    const scale = Math.min(1, SHOWN / Math.min(whole.width, whole.height));
    const canvas = new OffscreenCanvas(Math.max(1, Math.round(whole.width * scale)), Math.max(1, Math.round(whole.height * scale)));
    const context = canvas.getContext("2d");
    context.imageSmoothingQuality = "high";
    context.drawImage(whole, 0, 0, canvas.width, canvas.height);
    whole.close();
    this.small = await this.engine.keep(canvas, file.type);
    document.getElementById("full-size").textContent = size;
    return canvas.transferToImageBitmap();
  }

  get options() {
    const { strength, keepColors, strokes } = this.controls;
    return { strength, keep_colors: keepColors ? "luminance" : null, work_size: WORK[strokes] };
  }

  /** The strength has changed: up to 1 it is a blend of what is here already. */
  strengthen() {
    const { strength } = this.controls;
    this.stage.strength = Math.min(1, strength);
    this.stage.draw();
    if (this.small && Math.max(1, strength) !== this.paintedAt) this.update();
  }

  /** Something else has changed: paint anew; of several changes the last one counts. */
  async update() {
    if (!this.small) return;
    this.wanted = true;
    if (this.running) return;
    this.running = true;
    this.busy(true);
    clearProblem(); // now, not at the end: another may have come meanwhile
    try {
      await this.styles.ready;
      while (this.wanted) {
        this.wanted = false;
        const strength = Math.max(1, this.controls.strength);
        const small = this.small;
        const { picture, paintMs } = await this.known(() => this.engine.paint(small, this.styles.mix, { ...this.options, strength }));
        if (small !== this.small) continue;
        this.paintedAt = strength;
        this.stage.strength = Math.min(1, this.controls.strength);
        this.stage.paint(picture);
        this.status.textContent = `Painted in ${Math.round(paintMs)} ms`;
      }
    } catch (error) {
      showProblem(error);
    } finally {
      this.running = false;
      this.busy(false);
    }
  }

  /** Do work that uses the styles; if the server has forgotten one's own, they are sent again. */
  async known(work) {
    try {
      return await work();
    } catch (error) {
      if (error.status !== 404 || !(await this.styles.renew())) throw error;
      return work();
    }
  }

  async download() {
    const format = document.getElementById("format").value;
    this.button.disabled = true;
    this.button.firstChild.data = "Painting… ";
    announce("Painting the photograph at full size.");
    try {
      const blob = await this.known(() => this.engine.finish(this.file, this.styles.mix, this.options, format));
      const name = (this.file.name || "photo").replace(/\.[^.]*$/, "");
      const kind = blob.type.split("/")[1]; // a browser that cannot write a format writes PNG
      save(blob, `${name}-${this.styles.name}.${kind === "jpeg" ? "jpg" : kind}`);
      announce("The picture is in your downloads.");
      clearProblem();
    } catch (error) {
      showProblem(error);
    } finally {
      this.button.disabled = false;
      this.button.firstChild.data = "Download ";
    }
  }

  busy(now) {
    document.getElementById("busy").hidden = !now;
    document.getElementById("stage").setAttribute("aria-busy", now);
  }
}

/** Let the browser save a file. */
export function save(blob, name) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(blob);
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
}

export async function openSample(name, photo) {
  const blob = await (await fetch(`samples/${name}.jpg`)).blob();
  await photo.open(new File([blob], `${name}.jpg`, { type: "image/jpeg" }));
}
