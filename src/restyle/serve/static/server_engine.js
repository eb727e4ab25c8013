// The painter behind the HTTP API. browser_engine.js has the same face.

import { addStyle, askForToken, getJson, paint } from "./api.js";
import { ServerCamera } from "./server_camera.js";

export class ServerEngine {
  /** Which model paints, and on what. */
  async about() {
    const [model] = await getJson("/v1/models");
    return `${model.name} ${model.version} on this server’s ${model.device.toUpperCase()}`;
  }

  /** The gallery: [{id, title, author, year, thumbnail}]. */
  gallery() {
    return getJson("/v1/styles");
  }

  /** Read the style of a picture; returns its id. */
  addStyle(file) {
    return addStyle(file);
  }

  /** What the browser cannot read, the server perhaps can: the photograph as it is, small. */
  async read(file, mix, side) {
    const { blob } = await paint(file, mix, { strength: 0, size: side, format: "jpeg" });
    return createImageBitmap(blob);
  }

  /** A small copy of a photograph, on a canvas, in the form that `paint` takes. */
  keep(canvas, type) {
    return canvas.convertToBlob({ type: type === "image/png" ? type : "image/jpeg", quality: 0.92 });
  }

  /** The size of the download of a photograph. */
  finishedSize(width, height) {
    return [width, height];
  }

  /** Paint a small copy: {picture, paintMs}. */
  async paint(small, mix, options) {
    const { blob, paintMs } = await paint(small, mix, options);
    return { picture: await createImageBitmap(blob), paintMs };
  }

  /** Paint a photograph at full size, as a file of the format. */
  async finish(file, mix, options, format) {
    return (await paint(file, mix, { ...options, format })).blob;
  }

  /** Ask the user for the token that the camera needs; false if there is none. */
  askForToken() {
    return askForToken();
  }

  /** Begin to paint moving pictures. */
  openCamera() {
    return ServerCamera.open();
  }
}
