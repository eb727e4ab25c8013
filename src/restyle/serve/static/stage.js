// The picture on the page: photograph and painting on one canvas, blended by strength, divided by the compare slider.

/** As large as its stage allows; on a phone it takes up to half of the screen's height. */
export function fitInto(canvas, stage) {
  const phone = matchMedia("(max-width: 56rem)").matches;
  const height = phone ? innerHeight / 2 : stage.clientHeight;
  const scale = Math.min(stage.clientWidth / canvas.width, height / canvas.height, 3);
  canvas.style.width = `${Math.floor(canvas.width * scale)}px`;
}

export class Stage {
  constructor() {
    this.canvas = document.getElementById("canvas");
    this.context = this.canvas.getContext("2d");
    this.picture = document.getElementById("picture");
    this.compare = document.getElementById("compare");
    this.photo = this.painting = null;
    this.strength = 1; // of the painting over the photograph, 0 to 1
    this.compare.addEventListener("input", () => this.draw());
    addEventListener("resize", () => this.fit());
  }

  /** Show a photograph, not painted yet. */
  show(photo) {
    this.photo = photo;
    this.painting = null;
    this.canvas.width = photo.width;
    this.canvas.height = photo.height;
    document.getElementById("empty").hidden = true;
    this.picture.hidden = false;
    this.compare.value = 0;
    this.fit();
    this.draw();
  }

  paint(painting) {
    this.painting?.close();
    this.painting = painting;
    this.draw();
  }

  fit() {
    if (!this.photo) return;
    fitInto(this.canvas, document.getElementById("stage"));
  }

  draw() {
    if (!this.photo) return;
    const { width, height } = this.canvas;
    const at = Number(this.compare.value);
    const edge = Math.round((at / 100) * width);
    this.context.globalAlpha = 1;
    this.context.clearRect(0, 0, width, height);
    this.context.drawImage(this.photo, 0, 0, width, height);
    if (this.painting && edge < width) {
      this.context.save();
      this.context.beginPath();
      this.context.rect(edge, 0, width - edge, height);
      this.context.clip();
      this.context.globalAlpha = this.strength;
      this.context.drawImage(this.painting, 0, 0, width, height);
      this.context.restore();
    }
    this.picture.style.setProperty("--at", `${at}%`);
    const outside = Math.max(0, 1 - at / 8) - Math.max(0, 1 - (100 - at) / 8);
    this.picture.style.setProperty("--nudge", `${1.5 * outside}rem`); // at the edges the handle stays inside
    this.compare.setAttribute("aria-valuetext", `${at} % photograph`);
    document.getElementById("tag-before").hidden = at < 12;
    document.getElementById("tag-after").hidden = at > 88 || !this.painting;
  }
}
