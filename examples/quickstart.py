"""The whole Python interface in a few lines: encode a style once, use it as often as you like."""

import restyle
from restyle import gallery

model = restyle.Stylizer.load()
wave, mosaic = (model.encode_style(gallery.find(name)) for name in ("wave", "mosaic"))
photo = restyle.read_image(gallery.find("coffee", kind="sample")).pixels  # (H, W, 3) uint8

for strength in (0.3, 1.0):
    restyle.write_image(f"wave_{strength}.jpg", model.apply(photo, wave, strength), overwrite=True)

both = restyle.Style.mix([wave, mosaic], [2, 1])
both.save("both.style")  # small, and as good as the picture: restyle.Style.load gives it back
restyle.write_image("both.jpg", model.apply(photo, both), overwrite=True)
