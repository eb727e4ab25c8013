// What the page tells its user: problems in a banner, everything else quietly, also to screen readers.

const message = document.getElementById("message");

export function showProblem(error) {
  document.getElementById("message-text").textContent = error.message;
  message.hidden = false;
}

export function clearProblem() {
  message.hidden = true;
}

/** For screen readers. */
export function announce(text) {
  document.getElementById("said").textContent = text;
}

document.getElementById("message-close").addEventListener("click", clearProblem);
