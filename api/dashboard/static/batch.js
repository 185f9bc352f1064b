// A batch's page: numbers from its events as they come, and whether they come at all.
(() => {
  "use strict";

  const number = new Intl.NumberFormat("en-US");
  let connection = "connecting";

  const show = () => {
    const place = document.getElementById("live");
    if (!place) return;
    place.textContent = connection;
    place.dataset.is = connection;
  };

  const refresh = () => {
    for (const id of ["overview", "flight", "failures", "documents", "throughput", "timeline", "facts", "log"]) {
      const part = document.getElementById(id);
      if (part?.hasAttribute("hx-get")) htmx.trigger(part, "refresh");
    }
  };

  const figures = (data) => {
    const known = { ...data.counts, indexed: data.indexed };
    for (const [name, value] of Object.entries(known)) {
      if (value === null || value === undefined) continue;
      for (const place of document.querySelectorAll(`[data-figure="${name}"], [data-standing="${name}"]`)) place.textContent = number.format(value);
    }
  };

  let status = "";
  const announce = () => {
    const overview = document.getElementById("overview");
    if (!overview) return;
    if (status && status !== overview.dataset.status) {
      ingather.speak(overview.dataset.said);
      // The list of documents is made as it begins, and final as it ends.
      refresh();
    }
    status = overview.dataset.status;
  };

  document.addEventListener("htmx:sseOpen", () => {
    const wasAway = connection === "reconnecting";
    connection = "live";
    show();
    if (wasAway) refresh();
  });
  document.addEventListener("htmx:sseError", () => { connection = "reconnecting"; show(); });
  document.addEventListener("htmx:sseClose", () => { connection = "ended"; show(); });
  document.addEventListener("htmx:sseMessage", (event) => {
    if (event.target.id !== "overview" || event.detail.type !== "batch.progress") return;
    figures(JSON.parse(event.detail.data).data);
  });
  document.addEventListener("htmx:afterSettle", () => { show(); announce(); });
  document.addEventListener("DOMContentLoaded", announce);
})();
