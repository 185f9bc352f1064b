// Metadata of files: read out of a mapping that comes beside them, and entered in small tables of fields.
(() => {
  "use strict";

  const csv = (text) => {
    const rows = [[""]];
    let quoted = false;
    for (let at = 0; at < text.length; at += 1) {
      const character = text[at];
      const row = rows[rows.length - 1];
      if (quoted) {
        if (character !== '"') row[row.length - 1] += character;
        else if (text[at + 1] === '"') { row[row.length - 1] += '"'; at += 1; } else quoted = false;
      } else if (character === '"') quoted = true;
      else if (character === ",") row.push("");
      else if (character === "\n") rows.push([""]);
      else if (character !== "\r") row[row.length - 1] += character;
    }
    const [heading, ...rest] = rows;
    const names = heading.map((each) => each.replace(/^\uFEFF/, "").trim());
    if (!names.includes("filename")) throw new Error("The CSV has no column `filename`.");
    const found = new Map();
    for (const row of rest) {
      const entry = new Map(names.map((name, at) => [name, row[at] ?? ""]).filter(([, value]) => value));
      const filename = entry.get("filename");
      entry.delete("filename");
      if (filename) found.set(filename, entry);
    }
    return found;
  };

  // Fields by file name, out of a JSON object or a CSV.
  const mapping = async (file) => {
    const text = await file.text();
    if (file.name.toLowerCase().endsWith(".csv")) return csv(text);
    let found = null;
    try { found = JSON.parse(text); } catch { /* said below */ }
    const isObject = (value) => value && typeof value === "object" && !Array.isArray(value);
    if (!isObject(found)) throw new Error("The mapping is neither a JSON object of file names, nor a CSV.");
    const wrong = Object.keys(found).find((name) => !isObject(found[name]));
    if (wrong !== undefined) throw new Error(`What the mapping has for ${wrong} is no object of fields.`);
    return new Map(Object.entries(found).map(([name, fields]) => [name, new Map(Object.entries(fields))]));
  };

  // A value as people write it: a number, true, false, [ ] or { } is that; all else, and what is in quotes, is text.
  const read = (text) => {
    const said = text.trim();
    try {
      const value = JSON.parse(said);
      // A number that would be rounded stays the text that it is.
      if (value !== null && (typeof value !== "number" || String(value) === said)) return value;
    } catch { /* plain text */ }
    return said;
  };
  const written = (value) => (typeof value === "string" && read(value) === value ? value : JSON.stringify(value));

  // Fields over fields, the later ones first; one without a value is taken away.
  const over = (...layers) => {
    const found = new Map();
    for (const [name, value] of layers.flatMap((layer) => [...(layer ?? [])])) {
      if (value === undefined) found.delete(name);
      else found.set(name, value);
    }
    return found;
  };

  // The rows of a table that a person adds to and takes from.
  const table = (place) => {
    const body = place.querySelector("tbody");
    const update = () => { place.querySelector("table").hidden = !body.children.length; };
    const add = (name = "", value = "") => {
      const row = document.getElementById("field-row").content.firstElementChild.cloneNode(true);
      const [nameField, valueField] = row.querySelectorAll("input");
      nameField.value = name;
      valueField.value = value;
      row.querySelector("button").addEventListener("click", () => {
        const next = row.nextElementSibling ?? row.previousElementSibling;
        row.remove();
        update();
        (next?.querySelector("button") ?? adder).focus();
        place.dispatchEvent(new Event("input", { bubbles: true }));
      });
      body.append(row);
      update();
      return nameField;
    };
    const adder = place.querySelector("[data-adds]");
    adder.addEventListener("click", () => add().focus());
    place.addEventListener("keydown", (event) => {
      if (event.key !== "Enter" || event.target.tagName !== "INPUT") return;
      // It goes on to the next field; what is all around is not sent by it.
      event.preventDefault();
      const fields = [...body.querySelectorAll("input")];
      (fields[fields.indexOf(event.target) + 1] ?? add()).focus();
    });
    return {
      fill: (fields) => {
        body.replaceChildren();
        for (const [name, value] of fields) add(name, value === undefined || value === null ? "" : written(value));
        update();
      },
      // Values by name, undefined where none was entered. Throws where it is not clear what was meant.
      read: () => {
        const found = new Map();
        for (const row of body.children) {
          const [name, value] = [...row.querySelectorAll("input")].map((field) => field.value.trim());
          if (!name && value) throw new Error(`A field with the value “${value}” has no name.`);
          if (name && found.has(name)) throw new Error(`The field “${name}” is there twice.`);
          if (name) found.set(name, value ? read(value) : undefined);
        }
        return found;
      },
    };
  };

  window.ingather.metadata = { mapping, over, table, written };
})();
