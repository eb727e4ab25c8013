// Arithmetic on pictures: {data, width, height} with four bytes for each pixel, as ImageData has them.

/** The colours as the network wants them: three planes of numbers from 0 to 1. */
export function toPlanes({ data, width, height }) {
  const count = width * height;
  const planes = new Float32Array(3 * count);
  for (let i = 0; i < count; i++) {
    planes[i] = data[4 * i] / 255;
    planes[count + i] = data[4 * i + 1] / 255;
    planes[2 * count + i] = data[4 * i + 2] / 255;
  }
  return planes;
}

/** Three planes of numbers from 0 to 1 as a picture, with the photograph's alpha. */
export function fromPlanes(planes, { data, width, height }) {
  const count = width * height;
  const painted = new Uint8ClampedArray(4 * count); // rounds to the nearest
  for (let i = 0; i < count; i++) {
    for (let colour = 0; colour < 3; colour++) painted[4 * i + colour] = 255 * planes[colour * count + i];
    painted[4 * i + 3] = data[4 * i + 3];
  }
  return { data: painted, width, height };
}

/** The painting's brightness with the photograph's colours: keep_colors=luminance. Changes the painting. */
export function keepLuminance(painted, photo) {
  const [ours, theirs] = [painted.data, photo.data];
  for (let i = 0; i < ours.length; i += 4) {
    // With luminance changed and both colour differences kept, all three colours move by the same step.
    const step = 0.299 * (ours[i] - theirs[i]) + 0.587 * (ours[i + 1] - theirs[i + 1]) + 0.114 * (ours[i + 2] - theirs[i + 2]);
    for (let colour = i; colour < i + 3; colour++) ours[colour] = theirs[colour] + step;
  }
}

/** A picture as a file; JPEG has no transparency, what is transparent is laid on white. */
export function asFile({ data, width, height }, format) {
  const canvas = new OffscreenCanvas(width, height);
  const context = canvas.getContext("2d");
  context.putImageData(new ImageData(data, width, height), 0, 0);
  if (format === "jpeg") {
    context.globalCompositeOperation = "destination-over";
    context.fillStyle = "#fff";
    context.fillRect(0, 0, width, height);
  }
  return canvas.convertToBlob({ type: `image/${format}`, quality: 0.92 });
}
