// Pages that set things up: secrets that are copied, files that are chosen across folders.
(() => {
  "use strict";

  const number = new Intl.NumberFormat("en-US");
  const plural = (count, word) => `${number.format(count)} ${word}${count === 1 ? "" : "s"}`;

  document.addEventListener("click", async (event) => {
    const button = event.target.closest("[data-copies]");
    if (!button) return;
    const text = document.getElementById(button.dataset.copies)?.textContent ?? "";
    try {
      await navigator.clipboard.writeText(text);
      button.textContent = "Copied";
      window.ingather.speak("Copied.");
    } catch {
      // Without a secure context there is no clipboard: the text is marked, to be copied by hand.
      window.getSelection().selectAllChildren(document.getElementById(button.dataset.copies));
      window.ingather.speak("Marked: copy it with the keyboard.");
    }
  });

  // What is chosen in other folders and on other pages is remembered for as long as the tab is open.
  const form = () => document.querySelector("form[data-selection]");
  const place = () => `ingather:chosen:${form().dataset.selection}`;
  const read = () => {
    try { return new Map(JSON.parse(window.sessionStorage.getItem(place()) ?? "[]")); } catch { return new Map(); }
  };
  const write = (chosen) => {
    try { window.sessionStorage.setItem(place(), JSON.stringify([...chosen])); } catch { /* a full or forbidden store: this page alone counts */ }
  };
  const boxes = () => [...document.querySelectorAll('input[name="file"]')];

  const show = (chosen) => {
    const here = boxes();
    const elsewhere = chosen.size - here.filter((box) => chosen.has(box.value)).length;
    const all = document.getElementById("all-here");
    if (all) {
      all.checked = here.length > 0 && here.every((box) => box.checked);
      all.indeterminate = !all.checked && here.some((box) => box.checked);
    }
    const said = document.getElementById("chosen-count");
    if (said) said.textContent = chosen.size ? plural(chosen.size, "file") + " chosen" + (elsewhere ? `, ${number.format(elsewhere)} of them elsewhere` : "") : "Nothing is chosen yet.";
    const clear = document.getElementById("clear-chosen");
    if (clear) clear.hidden = !chosen.size;
    const send = document.getElementById("send-chosen");
    if (send) {
      send.disabled = !chosen.size;
      send.toggleAttribute("data-off", !chosen.size);
    }
  };

  const settle = () => {
    if (!form()) return;
    const chosen = read();
    for (const box of boxes()) if (chosen.has(box.value)) box.checked = true;
    for (const element of document.querySelectorAll("[data-needs-script]")) element.hidden = false;
    show(chosen);
  };

  document.addEventListener("change", (event) => {
    if (!form() || !event.target.matches('input[name="file"], #all-here')) return;
    const chosen = read();
    const touched = event.target.id === "all-here" ? boxes() : [event.target];
    for (const box of touched) {
      if (event.target.id === "all-here") box.checked = event.target.checked;
      if (box.checked) chosen.set(box.value, box.dataset.name);
      else chosen.delete(box.value);
    }
    write(chosen);
    show(chosen);
  });

  document.addEventListener("click", (event) => {
    if (event.target.id !== "clear-chosen") return;
    write(new Map());
    for (const box of boxes()) box.checked = false;
    show(new Map());
    window.ingather.speak("Nothing is chosen.");
  });

  document.addEventListener("submit", (event) => {
    if (event.target !== form()) return;
    const chosen = read();
    for (const box of boxes()) box.disabled = true;
    form().elements.chosen.value = JSON.stringify([...chosen.keys()]);
  });

  document.addEventListener("DOMContentLoaded", () => {
    if (document.querySelector("[data-forgets-selection]")) {
      const name = `ingather:chosen:${document.querySelector("[data-forgets-selection]").dataset.forgetsSelection}`;
      try { window.sessionStorage.removeItem(name); } catch { /* nothing was remembered */ }
    }
    settle();
  });
  document.addEventListener("htmx:afterSettle", settle);
})();
