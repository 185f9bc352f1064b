// Files from this computer into a batch: chosen, checked, sent in blocks to an open batch, which is sealed in the end.
// Large files come first and by themselves, over tus: one that broke off is gone on with, also after the page was closed.
// A block is sent again under the same Idempotency-Key when the connection breaks, so nothing comes twice.
(() => {
  "use strict";

  const MB = 1000 * 1000;
  const BLOCK_BYTES = 8 * MB;
  const BLOCK_FILES = 200;
  const AT_ONCE = 3;
  const TRIES = 7;
  const LARGE = 100 * MB;
  const TUS = "/v1/tus";
  const TUS_PIECE = 32 * MB;
  const LISTED = 200;
  const CHECKED_FILES = 2000;
  const CHECKED_WHOLE = 64 * MB;
  const HEAD = 64 * 1024;

  const form = document.getElementById("submit");
  const by = (id) => document.getElementById(id);
  const number = new Intl.NumberFormat("en-US");
  const size = (bytes) => {
    let left = bytes;
    for (const unit of ["bytes", "kB", "MB", "GB"]) {
      if (left < 1000 || unit === "GB") return `${unit === "bytes" || left >= 100 ? number.format(Math.round(left)) : left.toFixed(1)} ${unit}`;
      left /= 1000;
    }
  };
  const element = (name, text, className) => {
    const made = document.createElement(name);
    if (text) made.textContent = text;
    if (className) made.className = className;
    return made;
  };

  let chosen = [];
  let sending = null;

  // What was chosen

  const add = (found) => {
    if (sending) return;
    const known = new Set(chosen.map((each) => each.name));
    // An archive is unpacked piece by piece, and may be larger than a document may.
    const most = (name) => Number(name.toLowerCase().endsWith(".zip") ? form.dataset.maxUpload : form.dataset.maxFile);
    for (const { file, name } of found) {
      if (known.has(name) || name.split("/").some((part) => part.startsWith("."))) continue;
      known.add(name);
      chosen.push({ file, name, sent: 0, state: file.size > most(name) ? "too large" : "" });
    }
    show();
  };

  const show = () => {
    const bytes = chosen.reduce((sum, each) => sum + each.file.size, 0);
    by("chosen").hidden = chosen.length === 0;
    by("chosen-title").textContent = `${number.format(chosen.length)} file${chosen.length === 1 ? "" : "s"}, ${size(bytes)}`;
    by("check").disabled = by("send").disabled = chosen.length === 0 || sending !== null;
    by("preview").hidden = true;
    by("list").replaceChildren(...chosen.slice(0, LISTED).map((each) => {
      const row = element("li");
      row.append(element("span", each.name, "file-name"), element("span", size(each.file.size), "soft num"));
      each.bar = element("progress", "", "file-bar");
      each.bar.max = Math.max(each.file.size, 1);
      each.bar.value = each.sent;
      each.bar.setAttribute("aria-label", `${each.name}, sent`);
      each.said = element("span", each.state, "soft file-state");
      row.append(each.bar, each.said);
      return row;
    }));
    by("beyond").hidden = chosen.length <= LISTED;
    by("beyond").textContent = `and ${number.format(chosen.length - LISTED)} more`;
  };

  const walk = async (entry, path, found) => {
    if (entry.isFile) {
      const file = await new Promise((done, fail) => entry.file(done, fail));
      found.push({ file, name: path + entry.name });
    } else if (entry.isDirectory) {
      const reader = entry.createReader();
      for (;;) {
        const entries = await new Promise((done, fail) => reader.readEntries(done, fail));
        if (!entries.length) break;
        for (const each of entries) await walk(each, `${path}${entry.name}/`, found);
      }
    }
  };

  const drop = by("drop");
  for (const name of ["dragenter", "dragover"]) {
    drop.addEventListener(name, (event) => { event.preventDefault(); drop.dataset.over = ""; });
  }
  drop.addEventListener("dragleave", () => delete drop.dataset.over);
  drop.addEventListener("drop", async (event) => {
    event.preventDefault();
    delete drop.dataset.over;
    const entries = [...event.dataTransfer.items].map((item) => item.webkitGetAsEntry?.()).filter(Boolean);
    const found = [];
    try {
      for (const entry of entries) await walk(entry, "", found);
      if (!entries.length) found.push(...[...event.dataTransfer.files].map((file) => ({ file, name: file.name })));
    } catch {
      wrong("Some of what was dropped cannot be read.");
    }
    add(found);
  });
  // A file that misses the place must not replace the page.
  for (const name of ["dragover", "drop"]) window.addEventListener(name, (event) => event.preventDefault());
  for (const id of ["files", "folder"]) {
    by(id).addEventListener("change", () => {
      add([...by(id).files].map((file) => ({ file, name: file.webkitRelativePath || file.name })));
      by(id).value = "";
    });
  }
  by("clear").addEventListener("click", () => { if (!sending) { chosen = []; show(); } });

  // Metadata

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
    const found = {};
    for (const row of rest) {
      const entry = Object.fromEntries(names.map((name, at) => [name, row[at] ?? ""]).filter(([, value]) => value));
      const { filename, ...values } = entry;
      if (filename) found[filename] = values;
    }
    return found;
  };

  const metadata = async () => {
    const [file] = by("metadata").files;
    if (!file) return {};
    const text = await file.text();
    if (file.name.toLowerCase().endsWith(".csv")) return csv(text);
    try {
      const found = JSON.parse(text);
      if (found && typeof found === "object" && !Array.isArray(found)) return found;
    } catch { /* said below */ }
    throw new Error("The metadata is neither a JSON object of file names, nor a CSV.");
  };
  const of = (known, name) => known[name] ?? known[name.split("/").pop()];

  // Requests

  const wrong = (text) => { by("wrong").textContent = text; by("wrong").hidden = !text; };
  const told = (problem, status) => [problem?.detail ?? problem?.title ?? `The service answered ${status}.`, problem?.action].filter(Boolean).join(" ");

  class Refused extends Error {}
  class Stopped extends Error {}

  const spec = () => {
    const fields = new FormData(form);
    const found = { collection: fields.get("collection"), priority: Number(fields.get("priority")), hold: fields.get("hold") !== null };
    if (fields.get("name").trim()) found.name = fields.get("name").trim();
    else if (chosen.length) found.name = chosen[0].name.includes("/") ? chosen[0].name.split("/")[0] : chosen[0].name.slice(0, 200);
    return found;
  };

  const request = (method, path, body, { key, progress, signal } = {}) => new Promise((done, fail) => {
    const sent = new XMLHttpRequest();
    sent.open(method, path);
    sent.responseType = "text";
    sent.setRequestHeader("Accept", "application/json");
    const proof = ingather.proof();
    if (proof) sent.setRequestHeader("X-CSRF-Token", proof);
    if (key) sent.setRequestHeader("Idempotency-Key", key);
    let content = body;
    if (body && !(body instanceof FormData)) { sent.setRequestHeader("Content-Type", "application/json"); content = JSON.stringify(body); }
    if (progress) sent.upload.addEventListener("progress", (event) => progress(event.loaded));
    signal?.addEventListener("abort", () => sent.abort(), { once: true });
    sent.addEventListener("load", () => {
      let answer = null;
      try { answer = JSON.parse(sent.responseText); } catch { /* an answer without content */ }
      if (sent.status < 400) done(answer);
      else if (sent.status === 401) { window.location.assign(`/sign-in?next=${encodeURIComponent("/submit")}`); fail(new Stopped()); }
      else if (sent.status === 429 || sent.status >= 500) fail(Object.assign(new Error(told(answer, sent.status)), { after: Number(sent.getResponseHeader("Retry-After")) || 0 }));
      else fail(new Refused(told(answer, sent.status)));
    });
    sent.addEventListener("error", () => fail(new Error("The connection broke.")));
    sent.addEventListener("abort", () => fail(new Stopped()));
    sent.send(content);
  });

  const pause = (seconds, signal) => new Promise((done, fail) => {
    const timer = window.setTimeout(done, seconds * 1000);
    signal?.addEventListener("abort", () => { window.clearTimeout(timer); fail(new Stopped()); }, { once: true });
  });

  const patiently = async (ask, say, signal) => {
    for (let attempt = 1; ; attempt += 1) {
      try {
        return await ask();
      } catch (error) {
        if (error instanceof Refused || error instanceof Stopped || attempt === TRIES) throw error;
        const seconds = Math.max(error.after ?? 0, Math.min(2 ** attempt / 2, 15));
        say(`${error.message} Trying again in ${Math.round(seconds)} s …`);
        await pause(seconds, signal);
      }
    }
  };

  // Checking

  by("check").addEventListener("click", async () => {
    wrong("");
    by("check").disabled = true;
    const bytes = chosen.reduce((sum, each) => sum + each.file.size, 0);
    const isWhole = bytes <= CHECKED_WHOLE && chosen.length <= CHECKED_FILES;
    const body = new FormData();
    try {
      const known = await metadata();
      body.append("spec", JSON.stringify(spec()));
      const ours = Object.fromEntries(chosen.slice(0, CHECKED_FILES).map((each) => [each.name, of(known, each.name)]).filter(([, found]) => found));
      if (Object.keys(ours).length) body.append("metadata", JSON.stringify(ours));
      for (const { file, name } of chosen.slice(0, CHECKED_FILES)) body.append("files", isWhole ? file : file.slice(0, HEAD), name);
      preview(await request("POST", "/v1/batches?dry_run=true", body), bytes, isWhole);
    } catch (error) {
      if (!(error instanceof Stopped)) wrong(error.message);
    }
    by("check").disabled = false;
  });

  const preview = (found, bytes, isWhole) => {
    const facts = [["Documents", number.format(chosen.length)], ["Bytes", size(bytes)]];
    if (found.archives) facts.push(["Archives", `${number.format(found.archives)}, unpacked when the batch runs`]);
    facts.push(["Types", Object.entries(found.by_type).sort((a, b) => b[1] - a[1]).slice(0, 8).map(([type, count]) => `${type} (${number.format(count)})`).join(", ") || "none that is known"]);
    if (isWhole) facts.push(["Twice", found.duplicates ? `${number.format(found.duplicates)} with the same content` : "none"]);
    const tooLarge = chosen.filter((each) => each.state === "too large").length;
    facts.push(["Would fail", number.format(found.unsupported + (isWhole ? 0 : tooLarge))]);
    if (isWhole && found.estimated_seconds !== null) facts.push(["It would take", found.estimated_seconds < 90 ? `about ${Math.max(1, Math.round(found.estimated_seconds))} s` : `about ${Math.round(found.estimated_seconds / 60)} min`]);
    if (!isWhole) facts.push(["Checked", `the beginning of ${number.format(Math.min(chosen.length, CHECKED_FILES))} files; contents when they are sent`]);
    by("preview-facts").replaceChildren(...facts.flatMap(([name, value]) => [element("dt", name), element("dd", value)]));
    by("preview-refused").replaceChildren(...found.refused.slice(0, 20).map((each) => element("li", `${each.filename}: ${each.code.replaceAll("_", " ")}`)));
    by("preview").hidden = false;
  };

  // Sending

  const blocks = (files) => {
    const found = [];
    let block = [], bytes = 0;
    for (const each of files) {
      if (block.length && (bytes + each.file.size > BLOCK_BYTES || block.length === BLOCK_FILES)) { found.push(block); block = []; bytes = 0; }
      block.push(each);
      bytes += each.file.size;
    }
    if (block.length) found.push(block);
    return found;
  };

  const drawn = () => {
    const sent = chosen.reduce((sum, each) => sum + each.sent, 0);
    const bytes = Math.max(chosen.reduce((sum, each) => sum + each.file.size, 0), 1);
    by("total").value = Math.min(sent / bytes, 1);
    for (const each of chosen.slice(0, LISTED)) {
      each.bar.value = each.sent;
      each.said.textContent = each.state;
    }
    const seconds = (performance.now() - sending.begun) / 1000;
    if (!sending.said) by("pace").textContent = `${size(sent)} of ${size(bytes)}${seconds > 2 ? `, ${size(sent / seconds)} a second` : ""}`;
  };

  const spread = (block, loaded) => {
    let left = loaded;
    for (const each of block) {
      each.sent = Math.min(each.file.size, Math.max(left, 0));
      each.state = each.sent === each.file.size && left >= 0 ? "sent" : left > 0 ? "sending" : "";
      left -= each.file.size;
    }
    drawn();
  };

  const sendBlock = async (batchId, block, place, known) => {
    const say = (text) => { sending.said = text; if (text) by("pace").textContent = text; };
    await patiently(async () => {
      const body = new FormData();
      const ours = Object.fromEntries(block.map((each) => [each.name, of(known, each.name)]).filter(([, found]) => found));
      if (Object.keys(ours).length) body.append("metadata", JSON.stringify(ours));
      for (const { file, name } of block) body.append("files", file, name);
      await request("POST", `/v1/batches/${batchId}/documents`, body, {
        key: `${sending.run}-${place}`, signal: sending.signal, progress: (loaded) => { say(""); spread(block, loaded); },
      });
    }, say, sending.signal);
    for (const each of block) { each.sent = each.file.size; each.state = "taken in"; }
    drawn();
  };

  const takesPieces = async () => {
    const answer = await fetch(TUS, { method: "OPTIONS" }).catch(() => null);
    return Boolean(answer?.ok && answer.headers.get("Tus-Version"));
  };

  // The id of an upload over tus, to be named in the batch.
  const sendLarge = (each) => new Promise((done, fail) => {
    const proof = ingather.proof();
    const upload = new tus.Upload(each.file, {
      endpoint: TUS,
      chunkSize: TUS_PIECE,
      retryDelays: [0, 1000, 3000, 5000, 10000, 15000, 30000],
      headers: proof ? { "X-CSRF-Token": proof } : {},
      metadata: { filename: each.name },
      fingerprint: async () => ["ingather", each.name, each.file.size, each.file.lastModified].join("-"),
      removeFingerprintOnSuccess: true,
      onProgress: (sent) => { each.sent = sent; each.state = "sending"; drawn(); },
      onSuccess: () => { each.sent = each.file.size; each.state = "sent"; drawn(); done(upload.url.split("/").pop()); },
      onError: (error) => {
        let problem = null;
        try { problem = JSON.parse(error.originalResponse?.getBody() ?? ""); } catch { /* said without */ }
        fail(new Refused(problem ? told(problem, 0) : "The connection broke. Submit again: what was sent is gone on with."));
      },
    });
    sending.signal.addEventListener("abort", () => { upload.abort(); fail(new Stopped()); }, { once: true });
    upload.findPreviousUploads().then((found) => {
      if (found.length) upload.resumeFromPreviousUpload(found[0]);
      upload.start();
    }).catch(fail);
  });

  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    if (sending || !chosen.length) return;
    wrong("");
    const stopper = new AbortController();
    const run = [...crypto.getRandomValues(new Uint8Array(12))].map((each) => each.toString(16).padStart(2, "0")).join("");
    sending = { run, begun: performance.now(), signal: stopper.signal, said: "" };
    by("check").disabled = by("send").disabled = true;
    by("clear").hidden = true;
    by("meter").hidden = by("stop").hidden = false;
    by("stop").onclick = () => stopper.abort();
    const leave = (leaving) => leaving.preventDefault();
    window.addEventListener("beforeunload", leave);
    let batch = null;
    try {
      const known = await metadata();
      const say = (text) => { by("pace").textContent = text; };
      const large = chosen.filter((each) => each.file.size > LARGE);
      const pieces = large.length && await takesPieces() ? large : [];
      const uploads = [];
      for (const each of pieces) uploads.push(await sendLarge(each));
      const body = new FormData();
      body.append("spec", JSON.stringify({ ...spec(), uploads, open: true }));
      const ours = Object.fromEntries(pieces.map((each) => [each.name, of(known, each.name)]).filter(([, found]) => found));
      if (Object.keys(ours).length) body.append("metadata", JSON.stringify(ours));
      batch = await patiently(() => request("POST", "/v1/batches", body, { key: run, signal: stopper.signal }), say, stopper.signal);
      for (const each of pieces) { each.state = "taken in"; }
      const waiting = blocks(chosen.filter((each) => !pieces.includes(each))).map((block, place) => [block, place]);
      const work = async () => { for (let next = waiting.shift(); next; next = waiting.shift()) await sendBlock(batch.id, next[0], next[1], known); };
      await Promise.all(Array.from({ length: AT_ONCE }, work));
      await patiently(() => request("POST", `/v1/batches/${batch.id}/seal`, null, { key: `${run}-seal`, signal: stopper.signal }), say, stopper.signal);
      window.removeEventListener("beforeunload", leave);
      window.location.assign(`/batches/${batch.id}`);
    } catch (error) {
      window.removeEventListener("beforeunload", leave);
      const isStopped = stopper.signal.aborted;
      stopper.abort();
      wrong(isStopped ? "Stopped: nothing of it was taken in. Submit again, and large files are gone on with where they stopped." : error.message);
      if (batch) await request("POST", `/v1/batches/${batch.id}/cancel`, null).catch(() => null);
      for (const each of chosen) { each.sent = 0; each.state = ""; }
      sending = null;
      by("meter").hidden = by("stop").hidden = true;
      by("clear").hidden = false;
      show();
    }
  });
})();
