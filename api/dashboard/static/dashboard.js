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
  // A question that somebody is about to answer, or what somebody has opened to read it: neither is swapped away.
  const OPENED = "dialog[open], details[open]";
  document.addEventListener("htmx:beforeRequest", (event) => {
    const isOpened = event.detail.elt.querySelector(OPENED);
    if (event.detail.requestConfig.verb === "get" && (document.hidden || isOpened)) event.preventDefault();
  });
  // Whoever goes by keyboard stays where they are: on what is called the same in the part that comes in its place.
  const REACHED = "a[href], button, input, select, summary, [tabindex]";
  const called = (element) => [element.tagName, element.id, element.name, element.getAttribute("href"), element.getAttribute("aria-label") ?? element.textContent.trim()].join("\n");
  const alike = (part, name) => [...part.querySelectorAll(REACHED)].filter((each) => called(each) === name);
  let reached = null;
  document.addEventListener("htmx:beforeSwap", (event) => {
    const { requestConfig, target } = event.detail;
    // An answer that was on its way when it was opened.
    if (requestConfig.verb === "get" && target.querySelector(OPENED)) event.detail.shouldSwap = false;
    const place = document.activeElement;
    reached = null;
    if (!event.detail.shouldSwap || !target.id || !target.contains(place)) return;
    const name = called(place);
    reached = { within: target.id, name, at: alike(target, name).indexOf(place) };
  });
  document.addEventListener("htmx:afterSwap", () => {
    const part = reached && document.getElementById(reached.within);
    if (part) alike(part, reached.name)[reached.at]?.focus({ preventScroll: true });
    reached = null;
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
