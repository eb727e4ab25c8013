// The styles: the gallery and one's own, which are chosen, and in what mixture.

import { MixPad } from "./mixpad.js";
import { announce, showProblem } from "./say.js";

const MOST = 4;

export class Styles {
  /** `changed` is called whenever the mixture has become another. */
  constructor(engine, changed) {
    this.engine = engine;
    this.changed = changed;
    this.all = []; // {id, title, caption, thumbnail, file?}
    this.chosen = [];
    this.grid = document.getElementById("grid");
    this.mixing = document.getElementById("mixing");
    this.pad = new MixPad(() => this.changed());
    this.mixing.addEventListener("change", () => this.switchMixing());
    this.acceptFiles();
  }

  /** Resolves once the gallery is there; if it could not be had, this asks again. */
  get ready() {
    return (this.loading ||= this.load().catch((error) => {
      this.loading = null;
      throw error;
    }));
  }

  async load() {
    for (const one of await this.engine.gallery()) {
      const caption = `${one.title} — ${one.author}, ${one.year}`;
      this.add({ id: one.id, title: one.title, caption, thumbnail: one.thumbnail });
    }
    this.choose(this.all[0]);
  }

  /** The mixture: [{id, weight}]. */
  get mix() {
    const weights = this.pad.weights;
    return this.chosen.map((style, index) => ({ id: style.id, weight: this.chosen.length > 1 ? weights[index] : 1 }))
      .filter(({ weight }) => weight > 0);
  }

  get name() {
    return this.chosen.map((style) => style.title).join(" ").toLowerCase().replace(/[^\p{L}\p{N}]+/gu, "-").slice(0, 40);
  }

  add(style, first = false) {
    style.button = document.createElement("button");
    style.button.type = "button";
    style.button.title = style.caption;
    const picture = document.createElement("img");
    picture.src = style.thumbnail;
    picture.alt = style.title;
    style.button.append(picture);
    style.button.addEventListener("click", () => this.choose(style));
    this.all.push(style);
    if (first) this.addTile.after(style.button);
    else this.grid.append(style.button);
    this.show();
  }

  choose(style) {
    if (!this.mixing.checked) this.chosen = [style];
    else if (!this.chosen.includes(style)) this.chosen = [...this.chosen, style].slice(-MOST);
    else if (this.chosen.length > 1) this.chosen = this.chosen.filter((one) => one !== style);
    this.pad.show(this.chosen);
    this.show();
    this.changed();
  }

  switchMixing() {
    if (!this.mixing.checked) this.choose(this.chosen.at(-1));
    else announce("Choose up to four styles, then drag the point between them.");
    this.show();
  }

  show() {
    for (const style of this.all) style.button.setAttribute("aria-pressed", this.chosen.includes(style));
    const caption = document.getElementById("caption");
    if (this.mixing.checked && this.chosen.length < 2) caption.textContent = "Choose up to four styles to mix.";
    else caption.textContent = this.chosen.length === 1 ? this.chosen[0].caption : "";
    caption.hidden = this.chosen.length > 1;
  }

  /** One's own pictures, chosen or dropped. */
  acceptFiles() {
    this.addTile = document.createElement("label");
    this.addTile.className = "add";
    this.addTile.innerHTML = "<b aria-hidden='true'>+</b>Your own";
    const input = document.createElement("input");
    input.type = "file";
    input.accept = "image/*";
    input.id = "style-file";
    input.setAttribute("aria-label", "Add a style picture of your own");
    input.addEventListener("change", () => {
      if (input.files[0]) this.addOwn(input.files[0]);
      input.value = "";
    });
    this.addTile.append(input);
    this.grid.append(this.addTile);
  }

  async addOwn(file) {
    this.addTile.classList.add("waiting");
    announce("Reading the style.");
    try {
      const id = await this.engine.addStyle(file);
      const known = this.all.find((style) => style.id === id);
      const title = file.name || "your picture";
      if (!known) this.add({ id, title, caption: `${title} — yours`, thumbnail: URL.createObjectURL(file), file }, true);
      const style = known || this.all.at(-1);
      if (!this.chosen.includes(style)) this.choose(style);
      announce(`${title} is the style now.`);
    } catch (error) {
      showProblem(error);
    } finally {
      this.addTile.classList.remove("waiting");
    }
  }

  /** Upload one's own styles again, after the engine has forgotten them. */
  async renew() {
    const own = this.chosen.filter((style) => style.file);
    for (const style of own) style.id = await this.engine.addStyle(style.file);
    return own.length > 0;
  }
}
