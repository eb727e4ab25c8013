// Pictures at another size, as restyle.image.resize makes them (Lanczos): browsers' own scaling differs from one to the
// next, and a style read from a coarse copy is another style.

const LOBES = 3;

/** The size with the same proportions whose shorter side is `side`: [width, height]. */
export function fitShortSide({ width, height }, side) {
  const shorter = Math.min(width, height);
  return [width, height].map((one) => Math.max(1, Math.floor((2 * one * side + shorter) / (2 * shorter))));
}

/** {data, width, height} with four bytes for each pixel at another size; a new picture, unless the size is the same. */
export function resize(picture, width, height) {
  if (width === picture.width && height === picture.height) return picture;
  const across = weights(picture.width, width), down = weights(picture.height, height);
  const rows = new Float32Array(4 * width * picture.height); // at the new width, colours multiplied by alpha
  for (let y = 0, to = 0; y < picture.height; y++) {
    for (let x = 0; x < width; x++, to += 4) {
      const { first, shares } = across[x];
      for (let tap = 0, from = 4 * (y * picture.width + first); tap < shares.length; tap++, from += 4) {
        const share = shares[tap] * picture.data[from + 3];
        for (let colour = 0; colour < 3; colour++) rows[to + colour] += share * picture.data[from + colour];
        rows[to + 3] += share;
      }
    }
  }
  const data = new Uint8ClampedArray(4 * width * height); // rounds to the nearest
  const line = new Float32Array(4 * width);
  for (let y = 0; y < height; y++) {
    const { first, shares } = down[y];
    line.fill(0);
    shares.forEach((share, tap) => {
      const row = rows.subarray(4 * width * (first + tap), 4 * width * (first + tap + 1));
      for (let i = 0; i < line.length; i++) line[i] += share * row[i];
    });
    for (let i = 0, to = 4 * width * y; i < line.length; i += 4, to += 4) {
      const alpha = line[i + 3];
      for (let colour = 0; colour < 3; colour++) data[to + colour] = alpha ? line[i + colour] / alpha : 0;
      data[to + 3] = alpha;
    }
  }
  return { data, width, height };
}

/** For each of `many` points, from which of `few` on it is made of what shares. */
function weights(few, many) {
  const scale = Math.max(1, few / many);
  return Array.from({ length: many }, (_, point) => {
    const centre = ((point + 0.5) * few) / many;
    const first = Math.max(0, Math.floor(centre - LOBES * scale + 0.5));
    const end = Math.min(few, Math.floor(centre + LOBES * scale + 0.5));
    const shares = Float32Array.from({ length: end - first }, (_, tap) => lanczos((first + tap + 0.5 - centre) / scale));
    const sum = shares.reduce((total, share) => total + share, 0);
    return { first, shares: shares.map((share) => share / sum) };
  });
}

function lanczos(x) {
  if (x === 0) return 1;
  return Math.abs(x) < LOBES ? (LOBES * Math.sin(Math.PI * x) * Math.sin((Math.PI * x) / LOBES)) / (Math.PI * x) ** 2 : 0;
}
