// Everything works without it: times get a local reading, and parts that are live follow their events.
"use strict";

function readTimes(within) {
  for (const time of within.querySelectorAll("time[datetime]")) {
    time.title = new Date(time.dateTime).toLocaleString();
  }
}

function follow(live) {
  const events = new EventSource(live.dataset.events);
  events.addEventListener("news", (event) => {
    const focused = live.contains(document.activeElement) ? document.activeElement.id : "";
    live.innerHTML = event.data; // made by the console's own templates, which escape
    if (focused) document.getElementById(focused)?.focus({ preventScroll: true });
    live.classList.remove("stale");
    readTimes(live);
  });
  events.addEventListener("error", () => live.classList.add("stale"));
  addEventListener("pagehide", () => events.close());
}

readTimes(document);
for (const live of document.querySelectorAll("[data-events]")) {
  follow(live);
}

// Sends the form of many letters again and again, each time for some of them, until none is left or somebody leaves.
async function work(form) {
  const bar = form.querySelector("progress"), words = form.querySelector("[data-words]"), go = form.querySelector("button");
  go.hidden = true;
  for (;;) {
    const headers = { Accept: "application/json" };
    const body = new URLSearchParams(new FormData(form));
    const answer = await fetch(form.action, { method: "POST", headers, body }).catch(() => null);
    if (!answer?.ok || !answer.headers.get("Content-Type").startsWith("application/json")) {
      words.textContent = `It stopped after ${bar.value}: the service does not answer. Press “Go on” when it is back.`;
      go.hidden = false;
      return;
    }
    const far = await answer.json();
    if (far.to) {
      location.assign(far.to);
      return;
    }
    form.elements.done.value = bar.value = far.done;
    bar.max = far.done + far.left;
    words.textContent = `${far.done.toLocaleString("en")} done, ${far.left.toLocaleString("en")} left.`;
  }
}

for (const form of document.querySelectorAll("form[data-work]")) {
  work(form);
}
