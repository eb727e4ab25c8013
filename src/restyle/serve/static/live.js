// The camera: its newest picture is painted as soon as the last one has come back.

import { save } from "./photo.js";
import { fitInto } from "./stage.js";
import { announce, clearProblem, showProblem } from "./say.js";

const SIDES = { fine: 480, medium: 384, broad: 256 }; // short side in pixels of what is painted
const PAUSE_MS = 500; // after a picture that could not be painted, and while nobody looks
const element = (id) => document.getElementById(id);
const pause = () => new Promise((resolve) => setTimeout(resolve, PAUSE_MS));

export class Live {
  constructor(engine, styles, controls) {
    this.engine = engine;
    this.styles = styles;
    this.controls = controls;
    this.video = document.createElement("video");
    this.video.muted = this.video.playsInline = true;
    this.canvas = element("camera-canvas");
    this.capture = document.createElement("canvas");
    this.frames = []; // [when it came, how long it took] of the last second
    element("camera-start").addEventListener("click", () => this.start());
    element("camera-stop").addEventListener("click", () => this.stop());
    element("camera-record").addEventListener("click", () => this.record());
  }

  async start() {
    clearProblem();
    const attempt = (this.attempt = {});
    try {
      if (!navigator.mediaDevices) throw new Error("A camera needs a page from this computer or over HTTPS.");
      const stream = await navigator.mediaDevices.getUserMedia({ video: { width: 1280, height: 720 } });
      if (this.attempt !== attempt) { // stopped, or started again, while the browser asked
        for (const track of stream.getTracks()) track.stop();
        return;
      }
      this.stream = stream;
      for (const track of stream.getTracks()) track.addEventListener("ended", () => this.lose(attempt));
      this.video.srcObject = this.stream;
      await this.video.play();
      if (this.attempt !== attempt) return;
      element("camera-empty").hidden = true;
      element("camera-picture").hidden = element("camera-bar").hidden = false;
      this.take();
      this.resize(this.capture.width, this.capture.height);
      this.canvas.getContext("2d").drawImage(this.capture, 0, 0); // unpainted, until the first painted one comes
      element("camera-status").textContent = "Connecting…";
      await this.run(attempt);
    } catch (error) {
      if (this.attempt !== attempt) return;
      const words = { NotAllowedError: "The browser does not let this page use the camera.", NotFoundError: "No camera was found." };
      this.stop();
      if (error.status === 401 && this.engine.askForToken) {
        if (await this.engine.askForToken()) this.start();
      } else showProblem(new Error(words[error.name] || error.message));
    }
  }

  /** The camera was unplugged, or the browser took it away; what was recorded is saved. */
  lose(attempt) {
    if (this.attempt !== attempt) return;
    this.stop();
    showProblem(new Error("The camera is gone."));
  }

  async run(attempt) {
    await this.styles.ready;
    const session = await this.engine.openCamera();
    if (this.attempt !== attempt) return session.close();
    this.session = session;
    await this.update();
    while (this.attempt === attempt) {
      this.take();
      const began = performance.now();
      try {
        const picture = await session.paint(this.capture);
        if (this.attempt === attempt) this.show(picture, began);
      } catch (error) {
        if (session.closed) throw error;
        showProblem(error);
        await pause();
      }
      if (document.hidden) await pause();
    }
  }

  /** Say how to paint. */
  async update() {
    const session = this.session;
    if (!session) return;
    const { strength, keepColors } = this.controls;
    const options = { strength, keep_colors: keepColors ? "luminance" : null };
    try {
      await session.set(this.styles.mix, options);
    } catch (error) {
      if (session.closed) return; // whoever waits for a picture will hear of it
      if (error.status === 404 && (await this.styles.renew().catch(() => false))) await this.update();
      else showProblem(error);
    }
  }

  /** Take the newest picture of the camera. */
  take() {
    const { videoWidth: width, videoHeight: height } = this.video;
    const scale = Math.min(1, SIDES[this.controls.strokes] / Math.min(width, height));
    this.capture.width = Math.round(width * scale);
    this.capture.height = Math.round(height * scale);
    const context = this.capture.getContext("2d", { willReadFrequently: true });
    if (element("camera-mirror").checked) context.setTransform(-1, 0, 0, 1, this.capture.width, 0);
    context.drawImage(this.video, 0, 0, this.capture.width, this.capture.height);
  }

  show(picture, began) {
    const { width, height } = picture;
    const now = performance.now();
    this.resize(width, height);
    this.canvas.getContext("2d").drawImage(picture, 0, 0, this.canvas.width, this.canvas.height);
    picture.close();
    this.frames = [...this.frames.filter(([when]) => now - when < 1000), [now, now - began]];
    const latency = this.frames.reduce((sum, [, took]) => sum + took, 0) / this.frames.length;
    element("camera-rate").hidden = false;
    const rate = this.frames.length > 1 ? this.frames.length : (1000 / latency).toFixed(1);
    element("camera-rate").textContent = `${rate} fps · ${Math.round(latency)} ms`;
    element("camera-status").textContent = `${width} × ${height} pixels`;
  }

  resize(width, height) {
    if (this.recorder || (this.canvas.width === width && this.canvas.height === height)) return; // a film has one size
    this.canvas.width = width;
    this.canvas.height = height;
    this.fit();
  }

  fit() {
    fitInto(this.canvas, this.canvas.closest(".stage"));
  }

  record() {
    if (this.recorder) return this.recorder.stop();
    const type = ["video/mp4;codecs=avc1.42E01E", "video/webm;codecs=vp9", "video/webm"].find((one) => MediaRecorder.isTypeSupported(one));
    const parts = [];
    this.recorder = new MediaRecorder(this.canvas.captureStream(), { mimeType: type, videoBitsPerSecond: 8_000_000 });
    this.recorder.addEventListener("dataavailable", ({ data }) => parts.push(data));
    this.recorder.addEventListener("stop", () => {
      this.recorder = null;
      this.showRecording(false);
      const kind = type.split(";")[0];
      save(new Blob(parts, { type: kind }), `restyle-${this.styles.name}.${kind.split("/")[1]}`);
      announce("The recording is in your downloads.");
    });
    this.recorder.start();
    this.showRecording(true);
    announce("Recording.");
  }

  showRecording(now) {
    element("camera-record").textContent = now ? "Stop and save" : "Record";
    element("camera-record").setAttribute("aria-pressed", now);
    element("camera-recording").hidden = !now;
  }

  stop() {
    this.attempt = null;
    this.recorder?.stop();
    const session = this.session;
    this.session = null;
    session?.close();
    for (const track of this.stream?.getTracks() || []) track.stop();
    this.frames = [];
    element("camera-empty").hidden = false;
    element("camera-picture").hidden = element("camera-bar").hidden = element("camera-rate").hidden = true;
  }
}
