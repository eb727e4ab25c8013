// The page: puts its parts together.

import { engine, Film } from "./engine.js";
import { Live } from "./live.js";
import { openSample, Photo } from "./photo.js";
import { showProblem } from "./say.js";
import { Styles } from "./styles.js";

const element = (id) => document.getElementById(id);
const SAMPLES = ["castle", "coffee", "astronaut"];

const controls = {
  get strength() { return Number(element("strength").value); },
  get keepColors() { return element("keep-colors").checked; },
  get strokes() { return document.querySelector("input[name=strokes]:checked").value; },
};

const kind = document.documentElement.dataset.engine; // server or browser; the page holds words for both
for (const one of document.querySelectorAll(`[data-only]:not([data-only="${kind}"])`)) one.remove();

const styles = new Styles(engine, () => changed());
const photo = new Photo(engine, styles, controls);
const live = new Live(engine, styles, controls);

function changed() {
  if (!element("panel-photo").hidden) photo.update();
  live.update();
}

element("strength").addEventListener("input", () => {
  element("strength-shown").textContent = `${Math.round(100 * controls.strength)} %`;
  photo.strengthen();
  live.update();
});
element("keep-colors").addEventListener("change", changed);
for (const one of document.querySelectorAll("input[name=strokes]")) one.addEventListener("change", changed);
element("controls").addEventListener("submit", (event) => event.preventDefault());

/** What is chosen with these inputs goes to `take`. */
function acceptFiles(ids, take) {
  for (const id of ids) {
    element(id).addEventListener("change", ({ target }) => {
      if (target.files[0]) take(target.files[0]);
      target.value = "";
    });
  }
}
acceptFiles(["photo-file", "photo-file-again"], (file) => photo.open(file));

/** What is dropped on an element goes to `take`. */
function acceptDrops(target, take) {
  target.addEventListener("dragover", () => target.classList.add("over"));
  target.addEventListener("dragleave", () => target.classList.remove("over"));
  target.addEventListener("drop", (event) => {
    target.classList.remove("over");
    if (event.dataTransfer.files[0]) take(event.dataTransfer.files[0]);
  });
}
acceptDrops(element("stage"), (file) => photo.open(file));
acceptDrops(element("style-drop"), (file) => styles.addOwn(file));
if (Film) {
  const film = new Film(styles, controls);
  acceptFiles(["video-file", "video-file-again"], (file) => film.open(file));
  acceptDrops(element("video-stage"), (file) => film.open(file));
}
// A file dropped beside them must not make the browser leave the page.
for (const kind of ["dragover", "drop"]) addEventListener(kind, (event) => event.preventDefault());
addEventListener("paste", ({ clipboardData }) => {
  if (clipboardData.files[0] && !element("panel-photo").hidden) photo.open(clipboardData.files[0]);
});

const tabs = [...document.querySelectorAll("[role=tab]")];
function openTab(chosen) {
  for (const tab of tabs) {
    const open = tab === chosen;
    tab.setAttribute("aria-selected", open);
    tab.tabIndex = open ? 0 : -1;
    element(tab.getAttribute("aria-controls")).hidden = !open;
  }
  if (chosen.id !== "tab-camera") live.stop();
  changed();
}
for (const tab of tabs) {
  tab.addEventListener("click", () => openTab(tab));
  tab.addEventListener("keydown", ({ key }) => {
    if (key !== "ArrowLeft" && key !== "ArrowRight") return;
    const next = tabs.at((tabs.indexOf(tab) + (key === "ArrowRight" ? 1 : -1)) % tabs.length);
    openTab(next);
    next.focus();
  });
}
addEventListener("resize", () => live.fit());

for (const name of SAMPLES) {
  const button = document.createElement("button");
  button.type = "button";
  const picture = document.createElement("img");
  picture.src = `samples/${name}.jpg`;
  picture.alt = `Paint the example: ${name}`;
  button.append(picture);
  button.addEventListener("click", () => openSample(name, photo).catch(showProblem));
  element("samples").append(button);
}

try {
  await styles.ready;
  element("engine").textContent = await engine.about();
} catch (error) {
  element("engine").textContent = "";
  showProblem(error);
}
