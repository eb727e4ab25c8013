// The camera, painted by the server over a web socket: the newest frame is sent as soon as the last one has come back.

import { askForToken, token } from "./api.js";
import { save } from "./photo.js";
import { fitInto } from "./stage.js";
import { announce, clearProblem, showProblem } from "./say.js";

const SIDES = { fine: 480, medium: 384, broad: 256 }; // short side in pixels of what is sent
const element = (id) => document.getElementById(id);

export class Live {
  constructor(styles, controls) {
    this.styles = styles;
    this.controls = controls;
    this.video = document.createElement("video");
    this.video.muted = this.video.playsInline = true;
    this.canvas = element("camera-canvas");
    this.capture = document.createElement("canvas");
    this.number = 0;
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
      this.video.srcObject = this.stream;
      await this.video.play();
      if (this.attempt !== attempt) return;
      this.connect();
      element("camera-empty").hidden = true;
      element("camera-picture").hidden = element("camera-bar").hidden = false;
      this.take();
      this.resize(this.capture.width, this.capture.height);
      this.canvas.getContext("2d").drawImage(this.capture, 0, 0); // unpainted, until the first painted one comes
      element("camera-status").textContent = "Connecting…";
    } catch (error) {
      if (this.attempt !== attempt) return;
      const words = { NotAllowedError: "The browser does not let this page use the camera.", NotFoundError: "No camera was found." };
      showProblem(new Error(words[error.name] || error.message));
      this.stop();
    }
  }

  connect() {
    const socket = new WebSocket(`${location.protocol === "https:" ? "wss" : "ws"}://${location.host}/v1/live`);
    socket.binaryType = "arraybuffer";
    this.socket = socket;
    socket.addEventListener("open", () => this.update());
    socket.addEventListener("message", ({ data }) => {
      if (typeof data === "string") this.hear(JSON.parse(data));
      else this.show(data);
    });
    socket.addEventListener("close", async ({ code }) => {
      if (this.socket !== socket) return;
      this.stop();
      if (code === 1008) {
        if (await askForToken()) this.start();
      } else showProblem(new Error("The live connection has ended. All places may be taken: try again in a while."));
    });
  }

  /** Tell the server how to paint. */
  update() {
    if (this.socket?.readyState !== WebSocket.OPEN) return;
    const mix = this.styles.mix;
    const { strength, keepColors } = this.controls;
    this.socket.send(JSON.stringify({
      style_id: mix.map(({ id }) => id), style_weight: mix.map(({ weight }) => weight), strength,
      keep_colors: keepColors ? "luminance" : null, token: token(),
    }));
  }

  async hear(message) {
    if (message.type === "settings") this.send();
    else if (message.status === 404 && (await this.styles.renew().catch(() => false))) this.update();
    else {
      showProblem(new Error(message.detail));
      if (message.about === "frame") this.again();
    }
  }

  async send() {
    if (this.socket?.readyState !== WebSocket.OPEN || this.sentAt) return; // one frame at a time is on its way
    this.sentAt = performance.now();
    this.take();
    const file = await new Promise((resolve) => this.capture.toBlob(resolve, "image/jpeg", 0.85));
    this.number = (this.number + 1) % 2 ** 32;
    const number = new DataView(new ArrayBuffer(4));
    number.setUint32(0, this.number);
    if (this.socket?.readyState === WebSocket.OPEN) this.socket.send(new Blob([number, file]));
  }

  /** Take the newest picture of the camera. */
  take() {
    const { videoWidth: width, videoHeight: height } = this.video;
    const scale = Math.min(1, SIDES[this.controls.strokes] / Math.min(width, height));
    this.capture.width = Math.round(width * scale);
    this.capture.height = Math.round(height * scale);
    const context = this.capture.getContext("2d");
    if (element("camera-mirror").checked) context.setTransform(-1, 0, 0, 1, this.capture.width, 0);
    context.drawImage(this.video, 0, 0, this.capture.width, this.capture.height);
  }

  /** After a frame that could not be painted: not at once, so as not to press. */
  again() {
    this.sentAt = 0;
    setTimeout(() => this.send(), 500);
  }

  async show(data) {
    const picture = await createImageBitmap(new Blob([data.slice(4)], { type: "image/jpeg" }));
    const { width, height } = picture;
    const now = performance.now();
    this.resize(width, height);
    this.canvas.getContext("2d").drawImage(picture, 0, 0, this.canvas.width, this.canvas.height);
    picture.close();
    this.frames = [...this.frames.filter(([when]) => now - when < 1000), [now, now - this.sentAt]];
    this.sentAt = 0;
    const latency = this.frames.reduce((sum, [, took]) => sum + took, 0) / this.frames.length;
    element("camera-rate").hidden = false;
    element("camera-rate").textContent = `${this.frames.length} fps · ${Math.round(latency)} ms`;
    element("camera-status").textContent = `${width} × ${height} pixels`;
    if (document.hidden) this.again();
    else this.send();
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
    const socket = this.socket;
    this.socket = null;
    socket?.close();
    for (const track of this.stream?.getTracks() || []) track.stop();
    this.sentAt = 0;
    this.frames = [];
    element("camera-empty").hidden = false;
    element("camera-picture").hidden = element("camera-bar").hidden = element("camera-rate").hidden = true;
  }
}
