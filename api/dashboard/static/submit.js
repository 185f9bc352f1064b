// Files from this computer into a batch: chosen, checked, sent in blocks to an open batch, which is sealed in the end.
// Large files come first and by themselves, over tus, which goes on in the middle of one.
// A block is sent again under the same Idempotency-Key when the connection breaks, so nothing comes twice. What was sent when
// the page was left is noted in the browser: whoever chooses the same files again goes on there.
(() => {
  "use strict";

  const MB = 1000 * 1000;
  const BLOCK_BYTES = 8 * MB;
  const BLOCK_FILES = 200;
  const AT_ONCE = 3;
  const TRIES = 7;
  const LARGE = 32 * MB;
  const LARGE_FILES = 1000;
  const TUS = "/v1/tus";
  const TUS_PIECE = 32 * MB;
  const LISTED = 200;
  const CHECKED_FILES = 2000;
  const CHECKED_WHOLE = 64 * MB;
  const HEAD = 64 * 1024;
  const NOTED_EVERY = 10 * 1000;

  const { unfinished } = ingather;
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
  let left = [];

  // What was chosen

  // An archive is unpacked piece by piece, and may be larger than a document may.
  const firstState = ({ file, name }) => (file.size > Number(name.toLowerCase().endsWith(".zip") ? form.dataset.maxUpload : form.dataset.maxFile) ? "too large" : "");

  const add = (found) => {
    if (sending) return;
    const known = new Set(chosen.map((each) => each.name));
    for (const { file, name } of found) {
      if (known.has(name) || name.split("/").some((part) => part.startsWith("."))) continue;
      known.add(name);
      // What was entered for it before the page was left; JSON has kept null for no value.
      const fields = left.flatMap((facts) => facts.own.find(([each]) => each === name)?.[1] ?? []);
      const own = new Map(fields.map(([field, value]) => [field, value ?? undefined]));
      chosen.push({ file, name, own, sent: 0, state: firstState({ file, name }) });
    }
    show();
  };

  const show = () => {
    const bytes = chosen.reduce((sum, each) => sum + each.file.size, 0);
    by("chosen").hidden = chosen.length === 0;
    by("chosen-title").textContent = `${number.format(chosen.length)} file${chosen.length === 1 ? "" : "s"}, ${size(bytes)}`;
    by("check").disabled = by("send").disabled = chosen.length === 0 || sending !== null;
    by("preview").hidden = true;
    by("list").toggleAttribute("data-sending", sending !== null);
    by("list").replaceChildren(...chosen.slice(0, LISTED).map((each) => {
      const row = element("li");
      row.append(element("span", each.name, "file-name"), element("span", size(each.file.size), "soft num"));
      each.bar = element("progress", "", "file-bar");
      each.bar.max = Math.max(each.file.size, 1);
      each.bar.value = each.sent;
      each.bar.setAttribute("aria-label", `${each.name}, sent`);
      each.said = element("span", each.state, "soft file-state");
      each.opener = openerOf(each);
      named(each);
      row.append(each.bar, each.said, each.opener);
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
  drop.addEventListener("dragleave", (event) => { if (!drop.contains(event.relatedTarget)) delete drop.dataset.over; });
  drop.addEventListener("drop", async (event) => {
    event.preventDefault();
    delete drop.dataset.over;
    wrong("");
    const entries = [...event.dataTransfer.items].map((item) => item.webkitGetAsEntry?.()).filter(Boolean);
    const found = [];
    try {
      for (const entry of entries) await walk(entry, "", found);
      if (!entries.length) found.push(...[...event.dataTransfer.files].map((file) => ({ file, name: file.name })));
    } catch {
      wrong("Some of what was dropped cannot be read.");
    }
    if (!found.length && by("wrong").hidden) wrong("There is no file in what was dropped.");
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

  const forAll = ingather.metadata.table(by("for-all"));
  const forOne = ingather.metadata.table(by("for-one"));
  let opened = null;

  const openerOf = (each) => {
    const opener = element("button", "", "button quiet small");
    opener.type = "button";
    opener.addEventListener("click", () => {
      opened = each;
      by("one-title").textContent = `Metadata of ${each.name}`;
      by("one-wrong").hidden = true;
      forOne.fill(each.own);
      by("one").showModal();
    });
    return opener;
  };
  const named = (each) => {
    each.opener.textContent = each.own.size ? `${each.own.size} field${each.own.size === 1 ? "" : "s"}` : "Metadata";
    each.opener.setAttribute("aria-label", `Metadata of ${each.name}${each.own.size ? `, ${each.opener.textContent}` : ""}`);
  };
  by("one-keep").addEventListener("click", () => {
    try {
      opened.own = forOne.read();
      named(opened);
      by("preview").hidden = true;
      by("one").close();
    } catch (error) {
      by("one-wrong").textContent = error.message;
      by("one-wrong").hidden = false;
    }
  });

  // What each file gets: the fields of all, over them those of its row in the mapping, over them its own.
  const metadata = async () => {
    const shared = forAll.read();
    const [file] = by("metadata").files;
    const rows = file ? await ingather.metadata.mapping(file) : new Map();
    const rowOf = ({ name }) => [name, name.split("/").pop()].find((each) => rows.has(each));
    const used = new Set(chosen.map(rowOf));
    return {
      of: (each) => Object.fromEntries(ingather.metadata.over(shared, rows.get(rowOf(each)), each.own)),
      fileless: [...rows.keys()].filter((name) => !used.has(name)),
      shared,
    };
  };
  const appendMetadata = (body, files, known) => {
    const found = files.map((each) => [each.name, known.of(each)]).filter(([, fields]) => Object.keys(fields).length);
    if (found.length) body.append("metadata", JSON.stringify(Object.fromEntries(found)));
  };

  // Requests

  const wrong = (text) => { by("wrong").textContent = text; by("wrong").hidden = !text; };
  const told = (problem, status) => [problem?.detail ?? problem?.title ?? `The service answered ${status}.`, problem?.action].filter(Boolean).join(" ");

  class Refused extends Error {}
  class Stopped extends Error {}

  const spec = ([first]) => {
    const fields = new FormData(form);
    return {
      name: fields.get("name").trim() || (first.name.includes("/") ? first.name.split("/")[0] : first.name.slice(0, 200)),
      collection: fields.get("collection"),
      priority: Number(fields.get("priority")),
      hold: fields.get("hold") !== null,
    };
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
      body.append("spec", JSON.stringify(spec(chosen)));
      appendMetadata(body, chosen.slice(0, CHECKED_FILES), known);
      for (const { file, name } of chosen.slice(0, CHECKED_FILES)) body.append("files", isWhole ? file : file.slice(0, HEAD), name);
      preview(await request("POST", "/v1/batches?dry_run=true", body), bytes, isWhole, known);
    } catch (error) {
      if (!(error instanceof Stopped)) wrong(error.message);
    }
    by("check").disabled = false;
  });

  // As the command line says them: the long names of office formats fit no column.
  const SHORT_TYPES = { "text/plain": "text", "message/rfc822": "eml", "image/*": "image" };
  const OFFICE = { document: "docx", presentation: "pptx", sheet: "xlsx" };
  const shortType = (type) => SHORT_TYPES[type] || (type.includes("officedocument") && OFFICE[type.split(".").pop()]) || type.split("/").pop();

  const preview = (found, bytes, isWhole, known) => {
    const facts = [["Documents", number.format(chosen.length)], ["Bytes", size(bytes)]];
    if (found.archives) facts.push(["Archives", `${number.format(found.archives)}, unpacked when the batch runs`]);
    facts.push(["Types", Object.entries(found.by_type).sort((a, b) => b[1] - a[1]).slice(0, 8).map(([type, count]) => `${shortType(type)} (${number.format(count)})`).join(", ") || "none that is known"]);
    if (isWhole) facts.push(["Twice", found.duplicates ? `${number.format(found.duplicates)} with the same content` : "none"]);
    const tooLarge = chosen.filter((each) => each.state === "too large").length;
    facts.push(["Would fail", number.format(found.unsupported + (isWhole ? 0 : tooLarge))]);
    if (isWhole && found.estimated_seconds !== null) facts.push(["It would take", found.estimated_seconds < 90 ? `about ${Math.max(1, Math.round(found.estimated_seconds))} s` : `about ${Math.round(found.estimated_seconds / 60)} min`]);
    if (!isWhole) facts.push(["Checked", `the beginning of ${number.format(Math.min(chosen.length, CHECKED_FILES))} files; contents when they are sent`]);
    const described = chosen.filter((each) => Object.keys(known.of(each)).length).length;
    if (described) facts.push(["Metadata", `${number.format(described)} of ${number.format(chosen.length)} files have some`]);
    if (known.fileless.length) facts.push(["No file for", `${known.fileless.slice(0, 5).join(", ")}${known.fileless.length > 5 ? ` and ${number.format(known.fileless.length - 5)} more` : ""} of the mapping`]);
    by("preview-facts").replaceChildren(...facts.flatMap(([name, value]) => [element("dt", name), element("dd", value)]));
    by("preview-refused").replaceChildren(...found.refused.slice(0, 20).map((each) => element("li", `${each.filename}: ${each.code.replaceAll("_", " ")}`)));
    previewMetadata(found.metadata);
    by("preview").hidden = false;
  };

  const previewMetadata = (listed) => {
    by("preview-metadata").hidden = !listed.some((each) => each.problem || Object.keys(each.metadata).length);
    by("preview-metadata-title").textContent = listed.length < chosen.length ? `Metadata of the first ${number.format(listed.length)}` : "Metadata of each";
    by("preview-metadata-list").replaceChildren(...listed.map(({ filename, metadata: fields, problem }) => {
      const row = element("li");
      row.append(element("span", filename, "file-name"));
      const tags = Object.entries(fields).map(([name, value]) => element("span", `${name}: ${ingather.metadata.written(value)}`, "tag"));
      row.append(...(tags.length ? tags : [element("span", "none", "soft")]));
      if (problem) row.append(element("span", problem, "mistake"));
      return row;
    }));
  };
  form.addEventListener("input", () => { by("preview").hidden = true; });

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
    if (Date.now() - sending.notedAt > NOTED_EVERY) note({});
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
      appendMetadata(body, block, known);
      for (const { file, name } of block) body.append("files", file, name);
      await request("POST", `/v1/batches/${batchId}/documents`, body, {
        key: `${sending.facts.run}-${place}`, signal: sending.signal, progress: (loaded) => { say(""); spread(block, loaded); },
      });
    }, say, sending.signal);
    takenIn(block);
    note({ taken: [...sending.facts.taken, place] });
  };

  const takenIn = (files) => {
    for (const each of files) { each.sent = each.file.size; each.state = "taken in"; }
    drawn();
  };

  // Kept in the browser now and then too, so that no other tab takes it for left.
  const note = (more) => {
    sending.facts = { ...sending.facts, ...more };
    sending.notedAt = Date.now();
    unfinished.write(sending.facts);
  };

  const takesPieces = async () => {
    const answer = await fetch(TUS, { method: "OPTIONS" });
    if (answer.status >= 500) throw new Error(told(null, answer.status));
    return Boolean(answer.ok && answer.headers.get("Tus-Version"));
  };

  // A batch names so many uploads at most; further ones go in blocks, from their beginning when one breaks off.
  const largeOf = (files) => files.filter(({ file }) => file.size > LARGE).slice(0, LARGE_FILES);

  // The id of an upload over tus, to be named in the batch.
  const sendLarge = (each) => new Promise((done, fail) => {
    const proof = ingather.proof();
    const upload = new tus.Upload(each.file, {
      endpoint: TUS,
      chunkSize: TUS_PIECE,
      retryDelays: [0, 1000, 3000, 5000, 10000, 15000, 30000],
      onShouldRetry: (error) => {
        const status = error.originalResponse?.getStatus() ?? 0;
        const comesBack = status < 400 || status >= 500 || [409, 423, 429].includes(status);
        if (comesBack) { each.state = "waiting"; drawn(); }
        return comesBack;
      },
      headers: proof ? { "X-CSRF-Token": proof } : {},
      metadata: { filename: each.name },
      fingerprint: async () => ["ingather", each.name, each.file.size, each.file.lastModified].join("-"),
      removeFingerprintOnSuccess: true,
      onProgress: (sent) => { each.sent = sent; each.state = "sending"; drawn(); },
      onSuccess: () => { each.sent = each.file.size; each.state = "sent"; drawn(); done(upload.url.split("/").pop()); },
      onError: (error) => {
        let problem = null;
        try { problem = JSON.parse(error.originalResponse?.getBody() ?? ""); } catch { /* said without */ }
        fail(problem ? new Refused(told(problem, 0)) : new Error("The connection broke."));
      },
    });
    sending.signal.addEventListener("abort", () => { upload.abort(); fail(new Stopped()); }, { once: true });
    upload.findPreviousUploads().then((found) => {
      if (found.length) upload.resumeFromPreviousUpload(found[0]);
      upload.start();
    }).catch(fail);
  });

  const random = () => [...crypto.getRandomValues(new Uint8Array(12))].map((each) => each.toString(16).padStart(2, "0")).join("");

  // What is about to be sent, or the rest of what was. Throws where the rest would differ from the beginning.
  const begun = (files, known) => {
    const whole = unfinished.digest(JSON.stringify(files.map(({ file, name }) => [name, file.size, file.lastModified])));
    const described = unfinished.digest(JSON.stringify(files.map(known.of)));
    const facts = left.find((each) => each.whole === whole);
    if (!facts) {
      const own = files.filter((each) => each.own.size).slice(0, LISTED).map((each) => [each.name, [...each.own]]);
      const large = largeOf(files).map(({ file, name }) => [name, file.size]);
      return { run: random(), whole, described, spec: spec(files), shared: [...known.shared], own, large, count: files.length, batch: null, uploads: {}, taken: [] };
    }
    if (facts.described !== described) throw new Error("The metadata is not what it was when these files were begun to be sent. Enter it as it was, or cancel what was begun.");
    return { ...facts, isLeft: false };
  };

  const sendAll = async (files, known) => {
    const { signal } = sending;
    const say = (text) => { by("pace").textContent = text; };
    const large = largeOf(files);
    const pieces = large.length && await patiently(takesPieces, say, signal) ? large : [];
    for (const each of pieces) {
      if (!(each.name in sending.facts.uploads)) note({ uploads: { ...sending.facts.uploads, [each.name]: await sendLarge(each) } });
    }
    if (!sending.facts.batch) {
      const uploads = pieces.map((each) => sending.facts.uploads[each.name]);
      const body = new FormData();
      body.append("spec", JSON.stringify({ ...sending.facts.spec, uploads, open: true }));
      appendMetadata(body, pieces, known);
      const batch = await patiently(() => request("POST", "/v1/batches", body, { key: sending.facts.run, signal }), say, signal);
      note({ batch: batch.id });
    }
    takenIn(pieces);
    const batchId = sending.facts.batch;
    const isTaken = new Set(sending.facts.taken);
    const all = blocks(files.filter((each) => !pieces.includes(each))).map((block, place) => [block, place]);
    for (const [block] of all.filter(([, place]) => isTaken.has(place))) takenIn(block);
    const waiting = all.filter(([, place]) => !isTaken.has(place));
    const work = async () => { for (let next = waiting.shift(); next; next = waiting.shift()) await sendBlock(batchId, next[0], next[1], known); };
    await Promise.all(Array.from({ length: AT_ONCE }, work));
    await patiently(() => request("POST", `/v1/batches/${batchId}/seal`, null, { key: `${sending.facts.run}-seal`, signal }), say, signal);
    unfinished.drop(sending.facts.run);
    return batchId;
  };

  // Whether it is over. While the service is away, what was begun is still to be gone on with, or cancelled later.
  const giveUp = async (facts) => {
    try {
      if (facts.batch) await request("POST", `/v1/batches/${facts.batch}/cancel`, null);
    } catch (error) {
      if (!(error instanceof Refused)) { unfinished.write({ ...facts, isLeft: true }); return false; }
    }
    unfinished.drop(facts.run);
    return true;
  };

  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    if (sending || !chosen.length) return;
    wrong("");
    const stopper = new AbortController();
    // In an order of their own: chosen again in another one, they are the same.
    const files = [...chosen].sort((one, other) => (one.name < other.name ? -1 : 1));
    sending = { begun: performance.now(), signal: stopper.signal, said: "", facts: null };
    by("check").disabled = by("send").disabled = true;
    by("clear").hidden = true;
    by("meter").hidden = by("stop").hidden = false;
    by("stop").onclick = () => stopper.abort();
    by("list").toggleAttribute("data-sending", true);
    const leave = (event) => event.preventDefault();
    const leaving = () => { if (sending?.facts) note({ isLeft: true }); };
    window.addEventListener("beforeunload", leave);
    window.addEventListener("pagehide", leaving);
    try {
      const known = await metadata();
      sending.facts = begun(files, known);
      note({});
      const batchId = await sendAll(files, known);
      sending = null;
      window.removeEventListener("beforeunload", leave);
      window.location.assign(`/batches/${batchId}`);
    } catch (error) {
      window.removeEventListener("beforeunload", leave);
      window.removeEventListener("pagehide", leaving);
      const isStopped = stopper.signal.aborted;
      stopper.abort();
      const { facts } = sending;
      sending = null;
      if (isStopped || error instanceof Refused) {
        const isOver = !facts || await giveUp(facts);
        if (!isStopped) wrong(error.message);
        else wrong(isOver ? "Stopped: nothing of it was taken in. Submit again, and large files are gone on with where they stopped." : "Stopped, but the service could not be told. Submit again, and it goes on where it stopped, or cancel it above.");
      } else if (facts && unfinished.write({ ...facts, isLeft: true })) wrong(`${error.message} Submit again, and it goes on where it stopped.`);
      else {
        if (facts) await giveUp(facts);
        wrong(error.message);
      }
      for (const each of chosen) { each.sent = 0; each.state = firstState(each); }
      by("meter").hidden = by("stop").hidden = true;
      by("clear").hidden = false;
      show();
      await showLeft();
    }
  });

  // What was left before it had come to its end

  // Where it stands, in words; nothing where there is nothing to go on with.
  const standing = async ({ batch, count, uploads, large }) => {
    if (batch) {
      const found = await request("GET", `/v1/batches/${batch}`);
      return found.status === "pending" && found.waiting_for === "seal" ? `${number.format(found.counts.total)} of ${number.format(count)} files are there` : "";
    }
    const started = await tus.defaultOptions.urlStorage.findAllUploads();
    let sent = 0;
    for (const [name, bytes] of large) {
      const found = started.find((each) => each.metadata.filename === name && each.size === bytes);
      if (name in uploads) sent += bytes;
      else if (found) sent += await offsetOf(found.uploadUrl);
    }
    return sent ? `${size(sent)} of ${size(large.reduce((sum, [, bytes]) => sum + bytes, 0))} of its large files are there` : "";
  };

  const offsetOf = async (url) => {
    const answer = await fetch(url, { method: "HEAD", headers: { "Tus-Resumable": "1.0.0" } });
    if (answer.status === 429 || answer.status >= 500) throw new Error(told(null, answer.status));
    return answer.ok ? Number(answer.headers.get("Upload-Offset")) : 0;
  };

  const showLeft = async () => {
    left = [];
    for (const facts of unfinished.all()) {
      // While the service is away, what was begun is still to be gone on with.
      const words = await standing(facts).catch((error) => (error instanceof Refused ? "" : "the service does not say how much is there"));
      if (words) left.push({ ...facts, words });
      else unfinished.drop(facts.run);
    }
    by("left").hidden = !left.length;
    by("left-list").replaceChildren(...left.map((facts) => {
      const row = element("li");
      row.append(element("p", `Sending “${facts.spec.name}” was interrupted: ${facts.words}. Choose the same files again and submit, and it goes on.`));
      const doings = element("p", "", "inline");
      if (facts.batch) {
        const link = element("a", "Open the batch", "button quiet");
        link.href = `/batches/${facts.batch}`;
        doings.append(link);
      }
      const cancel = element("button", "Cancel it", "button quiet");
      cancel.type = "button";
      cancel.addEventListener("click", async () => { await giveUp(facts); await showLeft(); });
      doings.append(cancel);
      row.append(doings);
      return row;
    }));
  };

  // The form as it was, so that the same choice is the same submission.
  const fillIn = ({ spec: said, shared }) => {
    for (const name of ["name", "collection", "priority"]) form.elements[name].value = said[name];
    form.elements.hold.checked = said.hold;
    forAll.fill(shared);
  };

  showLeft().then(() => { if (left.length === 1 && !chosen.length) fillIn(left[0]); });
})();
