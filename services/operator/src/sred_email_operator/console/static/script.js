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
