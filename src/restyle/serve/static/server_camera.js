// Camera pictures painted by the server, over a web socket; one at a time is on its way.

import { ApiError, token } from "./api.js";

const POLICY_VIOLATION = 1008; // the server's word for a missing or wrong token

export class ServerCamera {
  /** Resolves once the server listens. */
  static open() {
    return new Promise((resolve, reject) => new ServerCamera(resolve, reject));
  }

  constructor(opened, refused) {
    this.settings = []; // [resolve, reject] of those that were sent and not answered yet, in their order
    this.frame = null; // the same of the frame on its way
    this.number = 0;
    const scheme = location.protocol === "https:" ? "wss" : "ws";
    this.socket = new WebSocket(`${scheme}://${location.host}/v1/live`);
    this.socket.binaryType = "arraybuffer";
    this.socket.addEventListener("open", () => opened(this));
    this.socket.addEventListener("message", ({ data }) => this.hear(data));
    this.socket.addEventListener("close", ({ code }) => {
      const error = code === POLICY_VIOLATION
        ? new ApiError(401, "This server wants a token.")
        : new ApiError(0, "The live connection has ended. All places may be taken: try again in a while.");
      refused(error);
      for (const [, reject] of [...this.settings, ...(this.frame ? [this.frame] : [])]) reject(error);
    });
  }

  get closed() {
    return this.socket.readyState !== WebSocket.OPEN;
  }

  /** Say how to paint from now on. */
  set(mix, { strength, keep_colors }) {
    if (this.closed) return Promise.resolve();
    this.socket.send(JSON.stringify({
      style_id: mix.map(({ id }) => id), style_weight: mix.map(({ weight }) => weight), strength, keep_colors, token: token(),
    }));
    return new Promise((...ends) => this.settings.push(ends));
  }

  /** Paint what a canvas shows. */
  async paint(canvas) {
    const file = await new Promise((resolve) => canvas.toBlob(resolve, "image/jpeg", 0.85));
    this.number = (this.number + 1) % 2 ** 32;
    const number = new DataView(new ArrayBuffer(4));
    number.setUint32(0, this.number);
    if (this.closed) throw new ApiError(0, "The live connection has ended.");
    this.socket.send(new Blob([number, file]));
    const painted = await new Promise((...ends) => { this.frame = ends; });
    return createImageBitmap(new Blob([painted], { type: "image/jpeg" }));
  }

  hear(data) {
    if (typeof data !== "string") return this.frame?.[0](data.slice(4));
    const { type, about, status, detail } = JSON.parse(data);
    const [resolve, reject] = type === "settings" || about === "settings" ? this.settings.shift() : this.frame;
    if (type === "settings") resolve();
    else reject(new ApiError(status, detail));
  }

  close() {
    this.socket.close();
  }
}
