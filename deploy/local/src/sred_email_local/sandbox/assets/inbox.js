// Keeps the list of emails fresh: asks for it again and again, and replaces it when it has changed.
"use strict";

const rows = document.getElementById("rows");
const lost = document.getElementById("lost");
const everyMs = 1500;
let shown = null;

async function refresh() {
  if (document.hidden) return;
  try {
    const answer = await fetch("/inbox/rows" + location.search);
    const html = await answer.text();
    lost.hidden = true;
    if (html !== shown) replaceRows(html);
    shown = html;
  } catch {
    lost.hidden = false;
  }
}

function replaceRows(html) {
  const focused = rows.contains(document.activeElement) ? document.activeElement.getAttribute("href") : null;
  rows.innerHTML = html; // made by this sandbox's own templates, which escape what emails say
  if (focused) rows.querySelector(`a[href="${CSS.escape(focused)}"]`)?.focus({ preventScroll: true });
}

setInterval(refresh, everyMs);
document.addEventListener("visibilitychange", refresh);
