// What this browser was sending when its page was left or its connection broke, so that the same choice goes on there.
(() => {
  "use strict";

  const PLACE = "ingather:sending:";
  const ALIVE = 60 * 1000;

  // Browsers may refuse to keep anything: then nothing is gone on with.
  const quietly = (act, otherwise) => { try { return act(); } catch { return otherwise; } };

  // Whether it is kept.
  const write = (facts) => quietly(() => {
    localStorage.setItem(PLACE + facts.run, JSON.stringify({ ...facts, at: Date.now() }));
    return true;
  }, false);
  const drop = (run) => quietly(() => localStorage.removeItem(PLACE + run));

  // Those that no open page is sending: left in order, or not heard of for a minute.
  const all = () => quietly(() => Object.keys(localStorage).filter((key) => key.startsWith(PLACE))
    .map((key) => JSON.parse(localStorage.getItem(key)))
    .filter((facts) => facts.isLeft || Date.now() - facts.at > ALIVE), []);

  // Tells texts apart; 64 bits are enough for the few choices that one person makes.
  const digest = (text) => {
    let [first, second] = [0x811c9dc5, 0x9747b28c];
    for (let at = 0; at < text.length; at += 1) {
      const code = text.charCodeAt(at);
      first = Math.imul(first ^ code, 0x01000193);
      second = Math.imul(second ^ code, 0x85ebca6b) ^ (second >>> 13);
    }
    return `${first >>> 0}-${second >>> 0}`;
  };

  window.ingather.unfinished = { all, write, drop, digest };
})();
