// The mixing pad: a point between two to four pictures, moved by pointer or arrow keys.

const PLACES = {
  2: [[0, 0.5], [1, 0.5]],
  3: [[0.5, 0], [0, 1], [1, 1]],
  4: [[0, 0], [1, 0], [0, 1], [1, 1]],
};
const MARGIN = 0.15; // of the pad's sides, around the places

/** How much of each picture a point holds; sums to one. */
export function shares(count, x, y) {
  if (count < 2) return [1];
  if (count === 2) return [1 - x, x];
  if (count === 4) return [(1 - x) * (1 - y), x * (1 - y), (1 - x) * y, x * y];
  const top = 1 - y; // of a triangle: barycentric, what lies outside is moved to its edge
  const right = Math.min(1 - top, Math.max(0, x - top / 2));
  return [top, 1 - top - right, right];
}

export class MixPad {
  constructor(changed) {
    this.changed = changed;
    this.styles = [];
    this.x = this.y = 0.5;
    this.pad = document.getElementById("pad");
    this.knob = document.getElementById("knob");
    this.pad.addEventListener("pointerdown", (event) => {
      this.pad.setPointerCapture(event.pointerId);
      this.follow(event);
      this.knob.focus({ preventScroll: true });
      event.preventDefault();
    });
    this.pad.addEventListener("pointermove", (event) => {
      if (this.pad.hasPointerCapture(event.pointerId)) this.follow(event);
    });
    this.knob.addEventListener("keydown", (event) => this.step(event));
  }

  get weights() {
    return shares(this.styles.length, this.x, this.y).map((share) => Math.round(1000 * share) / 1000);
  }

  show(styles) {
    const others = styles.length !== this.styles.length;
    this.styles = styles;
    document.getElementById("mixer").hidden = styles.length < 2;
    if (styles.length < 2) return;
    if (others) [this.x, this.y] = styles.length === 3 ? [0.5, 2 / 3] : [0.5, 0.5];
    const pictures = styles.map((style, index) => {
      const picture = document.createElement("img");
      picture.src = style.thumbnail;
      picture.alt = "";
      this.place(picture, ...PLACES[styles.length][index]);
      return picture;
    });
    document.getElementById("corners").replaceChildren(...pictures);
    this.draw();
  }

  place(element, x, y) {
    element.style.left = `${100 * (MARGIN + x * (1 - 2 * MARGIN))}%`;
    element.style.top = `${100 * (MARGIN + 0.05 + y * (0.9 - 2 * MARGIN))}%`;
  }

  follow(event) {
    const box = this.pad.getBoundingClientRect();
    const x = ((event.clientX - box.left) / box.width - MARGIN) / (1 - 2 * MARGIN);
    const y = ((event.clientY - box.top) / box.height - MARGIN - 0.05) / (0.9 - 2 * MARGIN);
    this.move(x, y);
  }

  step(event) {
    const steps = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key];
    if (!steps) return;
    const size = event.shiftKey ? 0.2 : 0.05;
    this.move(this.x + size * steps[0], this.y + size * steps[1]);
    event.preventDefault();
  }

  move(x, y) {
    this.x = Math.min(1, Math.max(0, x));
    this.y = this.styles.length === 2 ? 0.5 : Math.min(1, Math.max(0, y));
    if (this.styles.length === 3) this.x = Math.min((1 + this.y) / 2, Math.max((1 - this.y) / 2, this.x));
    this.draw();
    this.changed();
  }

  draw() {
    this.place(this.knob, this.x, this.y);
    const text = this.weights.map((share, index) => `${Math.round(100 * share)} % ${this.styles[index].title}`).join(", ");
    document.getElementById("shares").textContent = text;
    this.knob.setAttribute("aria-valuenow", Math.round(100 * this.x));
    this.knob.setAttribute("aria-valuetext", text);
  }
}
