// What every page does: times in the viewer's zone, dialogs, forms, what htmx is told and what it tells.
(() => {
  "use strict";

  const proof = () => document.querySelector('meta[name="csrf-token"]')?.content ?? "";
  const absolute = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "medium" });
  const relative = new Intl.RelativeTimeFormat(undefined, { numeric: "auto", style: "short" });
  const STEPS = [["day", 86400], ["hour", 3600], ["minute", 60], ["second", 1]];

  const ago = (moment) => {
    const seconds = (moment - Date.now()) / 1000;
    if (Math.abs(seconds) > 7 * 86400) return absolute.format(moment);
    const [unit, length] = STEPS.find(([, each]) => Math.abs(seconds) >= each) ?? STEPS[3];
    return relative.format(Math.round(seconds / length), unit);
  };

  const tell = (root) => {
    for (const element of root.querySelectorAll("time[datetime]")) {
      const moment = new Date(element.dateTime);
      if (Number.isNaN(moment.getTime())) continue;
      const words = "ago" in element.dataset ? ago(moment) : absolute.format(moment);
      if (element.textContent !== words) element.textContent = words;
    }
  };

  const speak = (words) => {
    const place = document.getElementById("spoken");
    if (place && words) place.textContent = words;
  };

  const trouble = (words) => {
    const place = document.getElementById("trouble");
    if (!place) return;
    if (place.hidden === !words && place.textContent === words) return;
    place.textContent = words;
    place.hidden = !words;
  };

  document.addEventListener("DOMContentLoaded", () => {
    tell(document);
    window.setInterval(() => tell(document), 10000);
    const sought = document.querySelector(".sought");
    // One that begins in sight stays where it is, below the heading.
    if (sought && sought.getBoundingClientRect().top > window.innerHeight * 0.7) sought.scrollIntoView({ block: "center" });
  });

  document.addEventListener("click", (event) => {
    const opener = event.target.closest("[data-opens]");
    if (opener) document.getElementById(opener.dataset.opens)?.showModal();
    if (event.target.closest("[data-closes]")) event.target.closest("dialog").close();
  });

  document.addEventListener("change", (event) => {
    if ("submits" in event.target.dataset) event.target.form.requestSubmit();
  });

  document.addEventListener("submit", (event) => {
    const field = event.target.querySelector('input[name="csrf_token"]');
    if (field) field.value = proof();
    const buttons = event.target.method === "post" ? event.target.querySelectorAll("button:not([type=button])") : [];
    window.setTimeout(() => buttons.forEach((button) => { button.disabled = true; }), 0);
  });
  // A page that comes back from the browser's memory can be used again.
  window.addEventListener("pageshow", () => document.querySelectorAll("form button:disabled").forEach((button) => {
    if (!("off" in button.dataset)) button.disabled = false;
  }));

  document.addEventListener("htmx:configRequest", (event) => {
    event.detail.headers["X-CSRF-Token"] = proof();
  });
  document.addEventListener("htmx:beforeRequest", (event) => {
    // Nobody looks, or somebody is about to answer a question that would be swapped away.
    const isAsked = event.detail.elt.querySelector("dialog[open]");
    if (event.detail.requestConfig.verb === "get" && (document.hidden || isAsked)) event.preventDefault();
  });
  // An answer that was on its way when the question was opened.
  document.addEventListener("htmx:beforeSwap", (event) => {
    if (event.detail.requestConfig.verb === "get" && event.detail.target.querySelector("dialog[open]")) event.detail.shouldSwap = false;
  });
  document.addEventListener("htmx:afterSettle", (event) => tell(event.detail.elt.parentNode ?? document));
  document.addEventListener("htmx:afterRequest", (event) => { if (event.detail.successful) trouble(""); });
  for (const name of ["htmx:sendError", "htmx:timeout"]) {
    document.addEventListener(name, () => trouble("The service cannot be reached. What you see is the last known; this page tries again by itself."));
  }
  document.addEventListener("htmx:responseError", (event) => {
    const status = event.detail.xhr.status;
    if (status === 429) trouble("Too many requests at the moment: this page slows down.");
    else if (status >= 500) trouble("Part of the service is away. What you see is the last known; this page tries again by itself.");
  });

  window.ingather = { tell, speak, trouble, proof };
})();
