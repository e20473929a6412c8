"use strict";
// Shows what is new without reloading the page: the page is asked for again, and its <main> put in the place of ours.
// Nothing is replaced under the hands of whoever types, selects or has opened something.

const main = document.querySelector("main");
const milliseconds = 1000 * Number(main.dataset.refresh);

function isInUse() {
  const typing = main.contains(document.activeElement) && document.activeElement.matches("input, select, button");
  return document.hidden || typing || String(getSelection()) !== "" || main.querySelector("details[open]") !== null;
}

async function renew() {
  try {
    if (!isInUse()) {
      const answer = await fetch(location.href, { headers: { Accept: "text/html" } });
      if (answer.status === 401) {
        location.reload();
        return;
      }
      const fresh = new DOMParser().parseFromString(await answer.text(), "text/html").querySelector("main");
      if (fresh !== null && !isInUse() && fresh.innerHTML !== main.innerHTML) main.replaceChildren(...fresh.childNodes);
    }
  } catch {
    // The server is away: what is shown stays, and is asked for again.
  }
  setTimeout(renew, milliseconds);
}

if (milliseconds > 0) setTimeout(renew, milliseconds);
