// Search over sections. The index is a script, loaded when the first letter is typed; so it works
// from a file as well. Hits are sections; a word in a heading counts for more than one in a text.
(() => {
  const ROOT = document.documentElement.dataset.content_root || "./";
  const FEWEST = 2; // letters before a search begins
  const MOST = 24; // hits that are shown
  let loading = null;

  /** The words of a question or a text: lower case, numbers with their point kept whole. */
  const words = (text) => text.toLowerCase().match(/\d+(?:[.,]\d+)*|[\p{L}\d]+/gu) || [];

  /** A word without the endings that only number and tense add. */
  const stem = (word) =>
    /^\d/.test(word) || word.length < 5
      ? word
      : word.replace(/(?:ies)$/, "y").replace(/(?:ing|ed|es|s)$/, "");

  const load = () =>
    (loading ||= new Promise((done, failed) => {
      const script = document.createElement("script");
      script.src = `${ROOT}_static/search-index.js`;
      script.onload = () => done(window.amSections.map(prepared));
      script.onerror = () => failed(new Error("the search index could not be loaded"));
      document.head.append(script);
    }));

  const prepared = ([where, trail, text]) => ({
    where,
    trail,
    text,
    page: words(trail[0]).map(stem),
    head: words(trail[trail.length - 1]).map(stem),
    body: words(text).map(stem),
    whole: words(`${trail[trail.length - 1]} ${text}`).map(stem).join(" "),
  });

  /** How often `term` is among `list`; a beginning counts for half, unless it is a number. */
  const count = (list, term) =>
    list.reduce((n, word) => n + (word === term ? 1 : !/^\d/.test(term) && word.startsWith(term) ? 0.5 : 0), 0);

  /** Sections that have every term, the best first. */
  function search(entries, question) {
    const terms = words(question).map(stem);
    if (!terms.length) return [];
    const hits = [];
    for (const entry of entries) {
      let score = 0;
      const all = terms.every((term) => {
        const inBody = count(entry.body, term);
        const inHead = count(entry.head, term);
        const inPage = count(entry.page, term);
        score += 12 * Math.min(inHead, 1) + 5 * Math.min(inPage, 1);
        score += (4 * inBody) / (inBody + 2) + (inBody ? 6 / Math.sqrt(20 + entry.body.length) : 0);
        return inBody + inHead + inPage > 0;
      });
      if (!all) continue;
      const phrase = terms.join(" ");
      if (terms.length > 1 && ` ${entry.whole} `.includes(` ${phrase}`)) score += 8;
      if (entry.head.join(" ") === phrase) score += 10;
      if (/api_|ledger|template/.test(entry.where)) score *= 0.15; // lists, not explanations
      hits.push({ entry, score });
    }
    return hits.sort((a, b) => b.score - a.score).slice(0, MOST).map((hit) => hit.entry);
  }

  /** About thirty words around the first place where a term is, with the terms marked. */
  function snippet(text, terms) {
    const parts = text.split(/(\s+)/);
    const is = (part) => words(part).map(stem).some((w) => terms.some((t) => w === t || (!/^\d/.test(t) && w.startsWith(t))));
    const first = Math.max(0, parts.findIndex(is));
    const start = Math.max(0, first - 20);
    const line = document.createElement("p");
    if (start) line.append("… ");
    for (const part of parts.slice(start, start + 64)) {
      const piece = is(part) ? document.createElement("mark") : null;
      if (piece) piece.textContent = part;
      line.append(piece || part);
    }
    if (start + 64 < parts.length) line.append(" …");
    return line;
  }

  function show(place, entries, question) {
    const terms = words(question).map(stem);
    const found = search(entries, question);
    const list = document.createElement("ol");
    for (const { where, trail, text } of found) {
      const item = document.createElement("li");
      const link = document.createElement("a");
      link.href = ROOT + where;
      link.textContent = trail[trail.length - 1];
      link.addEventListener("click", () => document.querySelector("#pst-search-dialog")?.close());
      item.append(link);
      if (trail.length > 1) {
        const path = document.createElement("span");
        path.className = "am-trail";
        path.textContent = trail.slice(0, -1).join(" › ");
        item.append(path);
      }
      item.append(snippet(text, terms));
      list.append(item);
    }
    const told = document.createElement("p");
    told.setAttribute("role", "status");
    told.textContent = found.length
      ? `${found.length}${found.length === MOST ? " or more" : ""} ${found.length === 1 ? "place" : "places"}`
      : `Nothing about “${question}”.`;
    place.replaceChildren(told, list);
  }

  function listen(form, place) {
    const input = form.querySelector("input[name=q]");
    const answer = () => {
      const question = input.value.trim();
      if (question.length < FEWEST) return place.replaceChildren();
      load().then(
        (entries) => input.value.trim() === question && show(place, entries, question),
        (error) => place.replaceChildren(error.message),
      );
    };
    let waiting = 0;
    input.addEventListener("input", () => {
      clearTimeout(waiting);
      waiting = setTimeout(answer, 120);
    });
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      answer();
    });
    return { input, answer };
  }

  document.addEventListener("DOMContentLoaded", () => {
    const dialog = document.querySelector("#pst-search-dialog");
    if (dialog) {
      const place = document.createElement("div");
      place.className = "am-hits";
      dialog.append(place);
      listen(dialog.querySelector("form"), place);
    }
    const own = document.querySelector(".bd-search-container form");
    if (own) {
      const place = document.createElement("div");
      place.className = "am-hits";
      own.after(place);
      const { input, answer } = listen(own, place);
      const question = new URLSearchParams(location.search).get("q");
      if (question) {
        input.value = question;
        answer();
      }
    }
  });

  window.amSearch = (question) => load().then((entries) => search(entries, question).map((e) => e.where));
})();
