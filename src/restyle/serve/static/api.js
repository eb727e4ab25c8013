// Talks to the server: adds the token, turns problem documents into errors with one sentence.

const TOKEN = "restyle-token";

export class ApiError extends Error {
  constructor(status, detail) {
    super(detail);
    this.status = status;
  }
}

export const token = () => sessionStorage.getItem(TOKEN) || "";

/** Ask for the token, in a dialog; false if the user would not tell. */
export function askForToken() {
  const dialog = document.getElementById("token-dialog");
  document.getElementById("token-title").textContent = token() ? "The server does not know this token" : "This server wants a token";
  if (!dialog.open) {
    dialog.returnValue = "";
    dialog.showModal();
  }
  return new Promise((resolve) => {
    dialog.addEventListener("close", () => {
      const told = dialog.returnValue === "told";
      if (told) sessionStorage.setItem(TOKEN, document.getElementById("token").value.trim());
      resolve(told);
    }, { once: true });
  });
}

async function send(path, options) {
  const headers = token() ? { Authorization: `Bearer ${token()}` } : {};
  let reply;
  try {
    reply = await fetch(path, { ...options, headers });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new ApiError(0, "The server does not answer. Is it still running?");
  }
  if (reply.ok) return reply;
  if (reply.status === 401) {
    if (!(await askForToken())) throw new ApiError(401, "This server wants a token.");
    return send(path, options);
  }
  const problem = await reply.json().catch(() => ({}));
  const retryAfter = Number(reply.headers.get("Retry-After"));
  if (reply.status === 503 && retryAfter && retryAfter < 5 && !options.tried) {
    await new Promise((resolve) => setTimeout(resolve, 1000 * retryAfter));
    return send(path, { ...options, tried: true });
  }
  throw new ApiError(reply.status, sentence(problem.detail) || `The server answered with ${reply.status}.`);
}

function sentence(text) {
  return text ? text[0].toUpperCase() + text.slice(1) + (/[.!?]$/.test(text) ? "" : ".") : "";
}

export const getJson = async (path) => (await send(path, {})).json();

export const getBlob = async (path) => (await send(path, {})).blob();

/** Keep a style picture's style on the server; returns its id. */
export async function addStyle(file) {
  const form = new FormData();
  form.append("style", file);
  return (await (await send("/v1/styles", { method: "POST", body: form })).json()).id;
}

function fields(content, mix, options) {
  const form = new FormData();
  form.append("content", content, "content");
  for (const { id, weight } of mix) {
    form.append("style_id", id);
    form.append("style_weight", weight);
  }
  for (const [name, value] of Object.entries(options)) if (value != null) form.append(name, value);
  return form;
}

/** Paint a picture. `mix` is a list of {id, weight}; `options` are form fields. Returns {blob, paintMs}. */
export async function paint(content, mix, options) {
  const reply = await send("/v1/images", { method: "POST", body: fields(content, mix, options) });
  const spans = [...(reply.headers.get("Server-Timing") || "").matchAll(/(\w+);dur=([\d.]+)/g)];
  const times = Object.fromEntries(spans.map(([, name, ms]) => [name, Number(ms)]));
  return { blob: await reply.blob(), paintMs: times.paint };
}

/** Begin to paint a video; returns the job. `signal` breaks the upload off. */
export async function startVideo(content, mix, options, signal) {
  return (await send("/v1/videos", { method: "POST", body: fields(content, mix, options), signal })).json();
}

/** `keepalive`: also when the page is being closed. */
export const deleteJob = (id, keepalive = false) => send(`/v1/jobs/${id}`, { method: "DELETE", keepalive });
