"""Draw the gallery's own pictures: python experiments/gallery_art.py [OUT_FOLDER]

Needs numpy and Pillow only. Fixed seeds: a second run draws the same. Painted at double size, then reduced.
"""

import sys
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

TAU = 2 * np.pi


def canvas(h, w, seed):
    """Double size, the coordinates of every pixel, and the picture's own dice."""
    return (2 * h, 2 * w, *np.mgrid[0 : 2 * h, 0 : 2 * w].astype(np.float32), np.random.default_rng(seed))


def finish(a):
    """Half the size, as a picture."""
    return Image.fromarray((np.clip(a, 0, 1) * 255 + 0.5).astype(np.uint8)).reduce(2)


def noise(h, w, cell, seed, octaves=4, stretch=1.0):
    """Cloudy noise about 0 with deviation 1, (h, w, 1); `stretch` > 1 draws it out sideways."""
    rng, total, weight = np.random.default_rng(seed), np.zeros((h, w), np.float32), 1.0
    for _ in range(octaves):
        small = rng.standard_normal((int(h / cell) + 3, int(w / cell / stretch) + 3)).astype(np.float32)
        total += weight * np.asarray(Image.fromarray(small).resize((w, h), Image.Resampling.BICUBIC))
        cell, weight = max(cell / 2, 1), weight * 0.5
    return ((total - total.mean()) / total.std())[..., None]


def rgb(text):
    """Colours from hexadecimal words, (N, 3) of 0..1."""
    return np.array([[int(c[i : i + 2], 16) / 255 for i in (0, 2, 4)] for c in text.split()], np.float32)


def ramp(t, text):
    """The colour of each 0..1 value along a list of colours."""
    colours, t = rgb(text), np.clip(t, 0, 1)
    return np.stack([np.interp(t, np.linspace(0, 1, len(colours)), c) for c in colours.T], -1).astype(np.float32)


def ridges(h, w, seed, count, top, bottom, amp, cell, octaves=5):
    """Skylines of `count` hills from far to near, each an array of heights (w,)."""
    bends = [noise(8, w, w / cell, seed * 31 + i, octaves)[4, :, 0] for i in range(count)]
    return [h * (top + (bottom - top) * i / count + amp * bend) for i, bend in enumerate(bends)]


def voronoi(y, x, points, groups, label):
    """Index of the nearest point and the way to the cell's border; a pixel only sees points of its own group."""
    (best, second), (index, other) = np.full((2, *y.shape), 1e9, np.float32), np.zeros((2, *y.shape), np.int32)
    for i, (py, px) in enumerate(points):
        d = np.where(label == groups[i], np.hypot(y - py, x - px), 1e9)
        closer, runner_up = d < best, d < second
        second = np.where(closer, best, np.where(runner_up, d, second))
        other = np.where(closer, index, np.where(runner_up, i, other))
        best, index = np.where(closer, d, best), np.where(closer, i, index)
    apart = np.hypot(*(np.take(points, index, 0) - np.take(points, other, 0)).transpose(2, 0, 1))
    return index, np.where(second > 1e8, 1e3, (second**2 - best**2) / np.maximum(2 * apart, 1))


def mosaic():
    """Roman floor: stones laid in rings round a sun, in rows along the waves, two fish, and a border of teeth."""
    h, w, y, x, rng = canvas(480, 480, 3)
    s, cy, cx = 19.0, 0.34 * h, 0.42 * w  # s: the side of a stone
    r, angle = np.hypot(y - cy, x - cx), (np.arctan2(y - cy, x - cx) / TAU) % 1
    u, v = r / s, angle * np.round(TAU * (np.floor(r / s) + 0.6))  # which ring, and where in the ring
    t = r / (0.8 * w) + 0.05 * np.sin(angle * TAU * 12) * (r > 7.6 * s)
    colour = ramp(t, "b3321e e07b28 f2c14e f4e3b2 9fc9b8 4f9da6 2c6e85 e9d8a6")

    def lay(where, new_u, new_v, tint):
        nonlocal u, v, colour
        u, v, colour = np.where(where, new_u, u), np.where(where, new_v, v), np.where(where[..., None], tint, colour)

    depth = (y - 0.66 * h - 26 * np.sin(x / w * TAU * 2.5) - 14 * np.sin(x / w * TAU * 5 + 1)) / s
    blues = rgb("f1ead2 1d3f5e 2b6a8f 2b6a8f 62a5b0 1d3f5e 14304a 2b6a8f 8fc1b5 1d3f5e 2b6a8f 14304a")
    swell = np.floor(depth) + np.floor(2.2 * np.sin(x / 30 + np.floor(depth) * 0.4))
    lay(depth > 0, depth, x / s + 0.37 * np.floor(depth), blues[swell.astype(int) % 12])
    for fy, fx, size, way in ((0.80, 0.36, 150.0, 1), (0.86, 0.74, 105.0, -1)):
        dx, dy = (x - fx * w) * way, y - fy * h
        body = np.hypot(dx, dy * 2.3)
        tail = (dx < -0.8 * size) & (dx > -1.5 * size) & (np.abs(dy) < -0.55 * (dx + 0.62 * size))
        bent = np.where(tail, np.abs(dy), dy + 0.12 * dx * dx / size + size) / s
        scale = np.where(body > 0.86 * size, 3, (np.floor(bent) + 2 * np.floor(dx / s)) % 3).astype(int)
        scale[np.hypot(dx - 0.62 * size, dy + 0.1 * size) < 0.9 * s] = 4
        lay((body < size) | tail, bent, dx / s, rgb("e8c468 d9662b f3e2b8 7f2418 151515")[scale])
    sides = np.stack([y, h - 1 - y, x, w - 1 - x])
    edge, along = sides.min(0) / s, np.where(sides.argmin(0) < 2, x, y) / s
    teeth = np.where(edge > 3, 2, np.abs(along % 6 - 3) > edge).astype(int)
    lay(edge < 4, edge, along, rgb("efe4c4 8f2d1f 23201d")[teeth])
    stone = (np.floor(u) * 7919 + np.floor(v) * 104729 + teeth * 31).astype(np.int64) % 4096
    colour = colour + (rng.normal(0, 0.075, (4096, 1)) + rng.normal(0, 0.03, (4096, 3)))[stone]
    a, b = u[..., None] % 1, v[..., None] % 1
    gap = np.minimum(np.minimum(a, 1 - a), np.minimum(b, 1 - b)) + 0.03 * noise(h, w, 9, 5, 2)
    colour = colour * (1 + 0.10 * (0.5 - a) + 0.08 * (0.5 - b)) + 0.018 * noise(h, w, 6, 6)
    return finish(colour + (rgb("6b6255") + 0.03 * noise(h, w, 5, 7) - colour) * np.clip((0.12 - gap) / 0.05, 0, 1))


def stained_glass():
    """A window: sun rays over hills and a river of glass, three lilies below, all held by lead."""
    h, w, y, x, rng = canvas(512, 448, 13)
    r, turn = np.hypot(y - 0.27 * h, x - 0.6 * w) / h, np.arctan2(y - 0.27 * h, x - 0.6 * w) / TAU % 1
    label = 10 + np.floor(turn * 18).astype(int) + 20 * np.floor(r / 0.30 + 0.55).astype(int)
    label[r < 0.115] = 207
    for i, line in enumerate(ridges(h, w, 5, 5, 0.46, 0.98, 0.05, 3)):
        label[y > line] = 200 + i
    river = np.abs(x / w - 0.42 - 0.16 * np.sin(y / h * 9)) < 0.22 * y / h - 0.09
    label[river & (label >= 201) & (label < 205)] = 205
    for k, (fy, fx, size) in enumerate(((0.80, 0.20, 0.15), (0.88, 0.78, 0.13), (0.70, 0.87, 0.085))):
        fr, fa = np.hypot(y - fy * h, x - fx * w) / h, np.arctan2(y - fy * h, x - fx * w)
        petal = fr < size * (0.72 + 0.28 * np.cos(fa * 6))
        label[petal] = (400 + 10 * k + np.floor(fa / TAU % 1 * 6 + 0.5) % 6)[petal]
        label[fr < 0.22 * size] = 206
    sky, pieces = rgb("f9a03f f26d3d d7263d c2185b 7b2d8b 3a3fa8 2458b8 1f7fc4"), []
    tint = dict(enumerate(rgb("4b3f8f 2f7f86 3f9b4f 8fb339 1f6b4a 2f9fe0 ffe27a ffd23f"), 200))
    for name in np.unique(label):
        here = np.argwhere(label == name).astype(np.float32)
        other = rgb("e23e6d f06fa0 b51f58")[name % 3] if name >= 400 else sky[min(7, (name - 10) // 20 * 2 + name % 2)]
        for spot in here[rng.integers(0, len(here), max(1, len(here) // 7000))]:
            pieces.append((spot, name, tint.get(name, other) * rng.normal(1, 0.17) + rng.normal(0, 0.035, 3)))
    points, groups, colours = zip(*pieces, strict=True)
    index, gap = voronoi(y, x, points, groups, label)
    colour = np.take(colours, index, 0) * (1 + 0.13 * noise(h, w, 60, 2, 5, 3.0) + 0.05 * noise(h, w, 8, 9))
    colour = colour + 0.16 * np.clip(gap / 45, 0, 1)[..., None]  # glass glows in the middle of a piece
    cut = Image.fromarray((np.roll(label, 1, 0) != label) | (np.roll(label, 1, 1) != label)).convert("L")
    cut = np.asarray(cut.filter(ImageFilter.GaussianBlur(3.5)), np.float32) / 255
    edge = np.minimum(np.minimum(y, h - 1 - y), np.minimum(x, w - 1 - x))
    lead = np.max([(4.5 - gap) / 2, cut * 14 - 0.7, (16 - edge) / 4], 0).clip(0, 1)[..., None]
    return finish(colour * (1 - lead) + lead * (0.12 + 0.03 * noise(h, w, 10, 4)))


def ink():
    """Mountains in mist with pines, brushed in black ink on rice paper, and the painter's red seal."""
    h, w, y, x, rng = canvas(448, 576, 21)
    light = np.ones((h, w, 1), np.float32)
    for i, line in enumerate(ridges(h, w, 8, 6, 0.20, 1.04, 0.085, 4)):
        near = i / 5
        depth = ((y - line)[..., None] + (2 + 5 * near) * noise(h, w, 14, 40 + i, 3)) / h
        stroke = np.clip(noise(h, w, 26, 80 + i, 4, 0.3) - 0.2 + 0.9 * noise(h, w, 70, 60 + i, 5, 0.45), 0, 2)
        tone = (0.20 + 0.62 * near) * np.exp(-np.clip(depth, 0, 1) / (0.05 + 0.05 * near)) * (0.55 + 0.45 * stroke)
        tone = tone + 0.20 * near * stroke * np.exp(-np.clip(depth, 0, 1) / 0.16)
        light *= 1 - np.clip(tone, 0, 0.93) * np.clip(depth * h / 3 + 0.5, 0, 1)
        light += 0.16 * (1 - near) * np.exp(-(((depth - 0.20) / 0.07) ** 2)) * (1 - light)  # mist
    picture = Image.fromarray((np.clip(light[..., 0], 0, 1) * 255).astype(np.uint8))
    pen = ImageDraw.Draw(picture)
    for px, py, size in ((150, 800, 330), (250, 850, 230), (1010, 840, 260), (900, 870, 150)):
        lean = rng.normal(0.12, 0.1)
        for k in range(26):
            nx, ny = px + lean * size / 26 + rng.normal(0, 3), py - size / 26
            pen.line((px, py, nx, ny), fill=25, width=int(size / 24 * (1 - k / 34)))
            px, py = nx, ny
            for _ in range(46 if k > 6 and k % 2 == 0 else 0):  # needles, thick along one bough
                side = 1 if k % 4 else -1
                q = size * 0.42 * (1 - k / 30) * rng.uniform(0, 1.1)
                bx, by, tilt = px + side * q + rng.normal(0, 7), py + 0.16 * q + rng.normal(0, 6), rng.normal(0, 9)
                pen.line((bx, by, bx + tilt, by - rng.uniform(8, 20)), fill=int(rng.uniform(15, 110)), width=2)
    light = np.asarray(picture.filter(ImageFilter.GaussianBlur(1.2)), np.float32)[..., None] / 255
    fibre = noise(h, w, 5, 1, 3, 4.0) * 0.010 + noise(h, w, 220, 2, 3) * 0.018
    colour = (rgb("ece3cd") + fibre) * (0.11 + 0.89 * light)
    glyph = (np.abs((x - 1060) % 22 - 11) > 3) & (np.abs((y - 120 + 6 * np.sin(x / 5)) % 24 - 12) > 3)
    seal = (np.abs(y - 120) < 34) & (np.abs(x - 1060) < 30) & glyph
    return finish(np.where(seal[..., None], rgb("b3281e") + fibre, colour))


def woodcut():
    """Black lines cut with a gouge over flat colours: sun rays, a lake, ploughed hills and cypresses."""
    h, w, y, x, _ = canvas(416, 544, 31)
    r, turn = np.hypot(y - 0.30 * h, x - 0.64 * w), np.arctan2(y - 0.30 * h, x - 0.64 * w) / TAU
    shake = noise(h, w, 40, 1, 4)[..., 0] * 0.09
    disc = r < 0.12 * h
    phase = np.where(disc, r / 200, turn * 84 + shake)  # a line for every whole number
    dark = np.where(disc, 0, 0.16 + 0.5 * np.clip(r / w - 0.1, 0, 1) + 0.1 * noise(h, w, 160, 2, 3, 3)[..., 0])
    flat = np.where(disc[..., None], rgb("d8432b"), ramp(r / (0.75 * w), "f3c96b f0d9a0 e9e0c4 b9cdc4"))
    for i, (line, calm) in enumerate(zip(*(ridges(h, w, 9, 5, 0.46, 1.02, 0.05, 3, n) for n in (5, 2)), strict=True)):
        slope, below = np.gradient(calm) * 260, y - line
        furrow = ((x + slope * 2) * (0.4 + 0.1 * i) + below * (-1.1) ** i * 1.3) / 22 + shake * 2
        shade = 0.3 + 0.3 * np.clip(slope / 90, -1, 1) + 0.4 * np.exp(-np.maximum(below, 0) / (0.03 * h))
        if i == 1:
            furrow, shade = below / 15 + shake * 2, 0.38 + 0.2 * np.sin(x / 90 + y / 30)
        phase, dark = np.where(below > 0, furrow, phase), np.where(below > 0, shade, dark)
        dark = np.where(np.abs(below) < 4, 1.0, dark)
        flat[below > 0] = rgb("7d9a8c 5f8f94 a9a45a c58b3a 8f5a2e")[i]
    for tx, base, size in ((0.13, 0.86, 0.52), (0.29, 0.93, 0.36), (0.88, 0.97, 0.42)):
        dx, up = x - tx * w, (base * h - y) / (size * h)
        body = np.sin(np.clip(up * 1.1 - 0.06, 0, 1) * 3.14) ** 0.6 * size * h * 0.15 * (1 + 3 * shake) - 9
        leaf = (np.abs(dx) < body) | ((np.abs(dx) < 9) & (up > 0) & (up < 0.3))
        phase, dark = np.where(leaf, [(y + np.abs(dx) * 0.9) / 17 + shake * 3, 0.5 + dx / 160], [phase, dark])
        flat[leaf] = rgb("3f6b4c")
    width = (np.clip(dark, 0.05, 1) - np.abs(phase % 1 - 0.5) * 2)[..., None]  # of the black line, less the way to it
    black = np.clip((width + 0.05 * noise(h, w, 7, 4, 2)) * 9 + 0.5, 0, 1)
    grain = 0.025 * noise(h, w, 5, 5, 3, 12)
    return finish((flat + grain) * (1 - black) + black * (0.09 - grain))


def batik():
    """Wax-dyed cloth: nested flowers on an indigo lattice, dotted outlines, and the fine crackle of the wax."""
    h, w, y, x, _ = canvas(480, 480, 61)
    thread = 0.03 * np.sin(y * TAU / 5) * np.sin(x * TAU / 5)
    y, x = y + 5 * noise(h, w, 60, 1, 3)[..., 0], x + 5 * noise(h, w, 60, 2, 3)[..., 0]
    oy, ox = y % 74 - 37, x % 74 - 37
    leaf = np.minimum(np.hypot(np.abs(oy) - 23, ox * 1.9), np.hypot(np.abs(ox) - 23, oy * 1.9))
    plan = np.where((np.abs(leaf - 17) < 3) | (np.hypot(oy, ox) < 5), 1, np.where(leaf < 19, 2, 0))
    flowers = [[30, 30, 33, 8], [76, 70, 29, 10], [80, 16, 17, 6], [17, 82, 19, 6], [50, 93, 11, 5], [50, 55, 10, 5]]
    for fy, fx, size, n in np.array(flowers) * (0.01, 0.01, 0.01, 1):
        r, a = np.hypot(y - fy * h, x - fx * w) / (size * h), np.arctan2(y - fy * h, x - fx * w)
        plan = np.where(r < 1.02 + 0.05 * np.cos(a * n), 3, plan)
        for k, (reach, dye) in enumerate(((0.95, 4), (0.76, 2), (0.58, 5), (0.38, 1), (0.24, 3), (0.14, 4))):
            q = r / (reach * (0.80 + 0.20 * np.abs(np.cos(a * n / 2 + k * TAU / 4))))
            plan = np.where(q < 1, dye, plan)
            plan = np.where(np.abs(q - 0.94) < 0.016 / reach, 1, plan)
            plan = np.where((np.abs(q - 0.82) < 0.05) & (np.cos(a * n * 8) > 0.35), 0 if dye in (1, 4) else 1, plan)
    cloth = rgb("1d2a55 ecd9b0 a5512a 5f2a1d d9963f 2f6f86")
    colour = cloth[plan] * (1 + 0.08 * noise(h, w, 120, 5, 4) + 0.03 * noise(h, w, 6, 6, 2))
    crack = np.minimum(np.abs(noise(h, w, 110, 7, 5)), np.abs(noise(h, w, 70, 8, 5)))
    vein = np.clip(1.3 - crack / 0.035, 0, 1) * np.clip(0.55 + noise(h, w, 160, 9, 2), 0, 0.85)
    return finish(colour * (1 - vein) + vein * cloth[0] * 0.9 + thread[..., None])


def pointillist():
    """A river at evening in dots of pure colour, each a little off its hue, a few in another one."""
    h, w, y, x, rng = canvas(400, 528, 51)
    t = 1.05 - np.abs(y / h - 0.56) * np.where(y > 0.56 * h, 2.2, 1.8) + 0.06 * noise(h, w, 90, 1, 3, 5)[..., 0]
    scene = ramp(t, "2f5fb3 4f8fd0 86b8d8 c9cfc0 f3d9a0 f5a04e")
    for i, line in enumerate(ridges(h, w, 4, 2, 0.45, 0.55, 0.03, 3)):
        scene[(y > line) & (y < 1.12 * h - line)] = rgb("6a5fae 3f7f6a")[i]  # a hill and its reflection
    bush = noise(h, w, 46, 8, 3)[..., 0]
    for tx, top, wide in ((0.80, 0.10, 0.12), (0.93, 0.02, 0.13), (0.07, 0.16, 0.10)):
        crown = wide * h * np.sqrt(np.clip((y / h - top) * (0.62 - y / h) * 9, 0, 1)) + 14 * bush
        light = ramp(0.5 + 0.32 * bush + (tx - x / w) * 3, "f0b040 7fb04a 2f8060 27406f")
        scene = np.where((np.abs(x - tx * w) < crown)[..., None], light, scene)
        scene[(np.abs(x - tx * w) < 9) & (y > 0.5 * h)] = rgb("5a3050")
    bank = (y > 0.90 * h - 0.30 * h * np.exp(-x / (0.2 * w)) + 9 * bush)[..., None]
    scene = np.where(bank, ramp(0.5 + 0.3 * noise(h, w, 50, 6, 3, 2)[..., 0], "1f5f4a 6f9f3f d9b54a"), scene)
    picture = Image.new("RGB", (w, h), (226, 214, 186))
    for radius, count in ((11, 14000), (8, 22000), (6.5, 16000)):
        for py, px in rng.uniform(0, 1, (count, 2)) * (h, w):
            c = scene[int(py), int(px)][[2, 1, 0] if rng.random() < 0.07 else [0, 1, 2]] + rng.normal(0, 0.09, 3)
            c, q = np.clip(c + 0.18 * (c - c.mean()), 0, 1) * 255, radius * rng.uniform(0.75, 1.1)
            ImageDraw.Draw(picture).ellipse((px - q, py - q, px + q, py + q), fill=tuple(c.astype(int)))
    return finish(np.asarray(picture, np.float32) / 255)


if __name__ == "__main__":
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else "src/restyle/gallery")
    for draw in (mosaic, stained_glass, ink, woodcut, batik, pointillist):
        draw().save(folder / f"{draw.__name__.replace('_', '-')}.jpg", quality=82, optimize=True)
