// A video: uploaded as a job, watched while it is painted, then shown and saved.

import { deleteJob, getBlob, getJson, startVideo } from "./api.js";
import { save } from "./photo.js";
import { announce, clearProblem, showProblem } from "./say.js";

const WORK = { fine: 720, medium: 512, broad: 320 };
const LOOK_MS = 500;
const MOST_UNANSWERED = 20; // looks in a row
const element = (id) => document.getElementById(id);

export class Film {
  constructor(styles, controls) {
    this.styles = styles;
    this.controls = controls;
    this.file = this.job = this.result = null;
    this.player = element("video-shown");
    element("video-paint").addEventListener("click", () => this.paint());
    element("video-stop").addEventListener("click", () => this.stop());
    element("video-save").addEventListener("click", () => this.save());
    addEventListener("pagehide", () => this.stop()); // nobody could ever fetch the result
  }

  async open(file) {
    await this.stop();
    clearProblem();
    this.file = file;
    this.result = null;
    this.play(file);
    element("video-empty").hidden = true;
    element("video-picture").hidden = element("video-bar").hidden = false;
    this.show(`${file.name} — not painted yet`);
  }

  play(blob) {
    URL.revokeObjectURL(this.player.src);
    this.player.src = URL.createObjectURL(blob);
  }

  async paint() {
    clearProblem();
    const { strength, keepColors, strokes } = this.controls;
    const options = { strength, keep_colors: keepColors ? "luminance" : null, work_size: WORK[strokes] };
    if (element("video-silent").checked) options.sound = "drop";
    const sending = (this.job = { upload: new AbortController() });
    this.show("Sending the video…");
    try {
      await this.styles.ready;
      this.name = `${this.file.name.replace(/\.[^.]*$/, "")}-${this.styles.name}.mp4`;
      const job = await startVideo(this.file, this.styles.mix, options, sending.upload.signal);
      if (this.job !== sending) return deleteJob(job.id); // stopped meanwhile
      this.job = job;
      announce("The video is being painted.");
      await this.follow();
    } catch (error) {
      if (error.name === "AbortError") return;
      this.job = null;
      this.show("");
      if (error.status === 404 && (await this.styles.renew().catch(() => false))) return this.paint();
      showProblem(error);
    }
  }

  async follow() {
    let unanswered = 0;
    while (this.job) {
      let job;
      try {
        job = await getJson(`/v1/jobs/${this.job.id}`);
        unanswered = 0;
      } catch (error) {
        // The server goes on painting while a phone is between two networks.
        if (error.status !== 0 || ++unanswered > MOST_UNANSWERED) throw error;
        await new Promise((resolve) => setTimeout(resolve, LOOK_MS));
        continue;
      }
      if (!this.job) return;
      this.job = job;
      if (job.state === "failed" || job.state === "cancelled") throw new Error(job.detail || "The video was not painted.");
      if (job.state === "done") return this.finish();
      const share = job.frames ? ` of ${job.frames}` : "";
      this.show(job.state === "queued" ? "Waiting for another video…" : `${job.frames_done}${share} frames painted`);
      await new Promise((resolve) => setTimeout(resolve, LOOK_MS));
    }
  }

  async finish() {
    const job = this.job;
    this.show("Fetching the video…");
    this.result = await getBlob(job.result);
    this.job = null;
    this.play(this.result);
    deleteJob(job.id).catch(() => {}); // it would be forgotten anyway
    this.show([`${job.frames_done} frames painted`, ...job.notes].join("; "));
    announce("The video is painted.");
  }

  async stop() {
    const job = this.job;
    this.job = null;
    if (!job) return;
    this.show("Stopped");
    job.upload?.abort();
    if (job.id) await deleteJob(job.id, true).catch(() => {});
  }

  save() {
    save(this.result, this.name);
  }

  show(text) {
    const working = Boolean(this.job);
    element("video-status").textContent = text;
    element("video-busy").hidden = element("video-stop").hidden = !working;
    element("video-progress").hidden = !working;
    element("video-progress").max = this.job?.frames || 1;
    element("video-progress").value = this.job?.frames_done || 0;
    element("video-paint").hidden = working;
    element("video-paint").textContent = this.result ? "Paint again" : "Paint the video";
    element("video-paint").classList.toggle("primary", !this.result);
    element("video-save").hidden = working || !this.result;
  }
}
