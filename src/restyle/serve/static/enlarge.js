// A painting made small, brought to full size: large strokes, and the photograph's edges sharp. The same arithmetic as
// restyle/controls/detail.py (fast guided filter, He & Sun 2015): around every point of the small pictures the painting
// is written as a linear map of the photograph's colours; the maps are stretched and applied to the large photograph.

import { toPlanes } from "./pixels.js";

const EPS = 1e-3; // spread of colours, squared, below which a window counts as flat

/** Bring a small painting to the photograph's size; `small` is the photograph at the painting's size. */
export function enlarge(painted, small, photo) {
  const { width, height } = photo;
  const maps = linearMaps(small, painted);
  const down = places(small.height, height), across = places(small.width, width);
  const data = new Uint8ClampedArray(photo.data); // rounds to the nearest
  const line = maps.map(() => new Float32Array(small.width)); // the maps between two of their rows
  const here = new Float32Array(12); // the map of one point
  for (let y = 0; y < height; y++) {
    const upper = down.first[y] * small.width, lower = down.second[y] * small.width, share = down.share[y];
    for (let number = 0; number < 12; number++) {
      const map = maps[number], row = line[number];
      for (let x = 0; x < small.width; x++) row[x] = map[upper + x] + share * (map[lower + x] - map[upper + x]);
    }
    for (let x = 0, at = 4 * y * width; x < width; x++, at += 4) {
      const left = across.first[x], right = across.second[x], part = across.share[x];
      for (let number = 0; number < 12; number++) here[number] = line[number][left] + part * (line[number][right] - line[number][left]);
      const red = photo.data[at], green = photo.data[at + 1], blue = photo.data[at + 2];
      for (let colour = 0; colour < 3; colour++) {
        data[at + colour] = red * here[colour] + green * here[3 + colour] + blue * here[6 + colour] + 255 * here[9 + colour];
      }
    }
  }
  return { data, width, height };
}

/** Twelve planes: at each point a 3x3 matrix and a shift that make the painting's colours out of the guide's. */
function linearMaps(small, painted) {
  const { width, height } = small;
  const count = width * height;
  const split = (picture) => [0, 1, 2].map((colour) => toPlanes(picture).subarray(colour * count, (colour + 1) * count));
  const mean = (plane) => meanAround(plane, width, height);
  const guide = split(small), wanted = split(painted);
  const guideMean = guide.map(mean), wantedMean = wanted.map(mean);
  const covariance = (one, oneMean, other, otherMean) => {
    const result = mean(one.map((value, i) => value * other[i]));
    for (let i = 0; i < count; i++) result[i] -= oneMean[i] * otherMean[i];
    return result;
  };
  // Of the guide with itself (symmetric: six planes), and of the guide with the painting (nine).
  const own = [[0, 0], [0, 1], [0, 2], [1, 1], [1, 2], [2, 2]].map(([a, b]) => covariance(guide[a], guideMean[a], guide[b], guideMean[b]));
  const cross = [0, 1, 2].map((a) => [0, 1, 2].map((b) => covariance(guide[a], guideMean[a], wanted[b], wantedMean[b])));
  const maps = Array.from({ length: 12 }, () => new Float32Array(count));
  for (let i = 0; i < count; i++) {
    const [a, b, c, d, e, f] = [own[0][i] + EPS, own[1][i], own[2][i], own[3][i] + EPS, own[4][i], own[5][i] + EPS];
    // The inverse of the symmetric matrix [a b c; b d e; c e f] by its cofactors.
    const [A, B, C, D, E, F] = [d * f - e * e, c * e - b * f, b * e - c * d, a * f - c * c, b * c - a * e, a * d - b * b];
    const determinant = a * A + b * B + c * C;
    for (let colour = 0; colour < 3; colour++) {
      const [x, y, z] = [cross[0][colour][i], cross[1][colour][i], cross[2][colour][i]];
      const column = [A * x + B * y + C * z, B * x + D * y + E * z, C * x + E * y + F * z].map((one) => one / determinant);
      let shift = wantedMean[colour][i];
      column.forEach((one, row) => {
        maps[3 * row + colour][i] = one;
        shift -= guideMean[row][i] * one;
      });
      maps[9 + colour][i] = shift;
    }
  }
  return maps.map(mean);
}

/** Mean over the 3x3 window around each point; the border is repeated. */
function meanAround(plane, width, height) {
  const result = new Float32Array(plane.length), across = new Float32Array(plane.length);
  for (let y = 0, i = 0; y < height; y++) {
    for (let x = 0; x < width; x++, i++) across[i] = (plane[x ? i - 1 : i] + plane[i] + plane[x < width - 1 ? i + 1 : i]) / 3;
  }
  for (let y = 0, i = 0; y < height; y++) {
    const up = y ? width : 0, low = y < height - 1 ? width : 0;
    for (let x = 0; x < width; x++, i++) result[i] = (across[i - up] + across[i] + across[i + low]) / 3;
  }
  return result;
}

/** For each of many points, which two of few it lies between, and how near the second. */
function places(few, many) {
  const first = new Int32Array(many), second = new Int32Array(many), share = new Float32Array(many);
  for (let point = 0; point < many; point++) {
    const place = Math.min(few - 1, Math.max(0, ((point + 0.5) * few) / many - 0.5));
    first[point] = Math.floor(place);
    second[point] = Math.min(first[point] + 1, few - 1);
    share[point] = place - first[point];
  }
  return { first, second, share };
}
