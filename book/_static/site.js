// What every page does once it is read: formulas, wide things that can be scrolled, print.
(() => {
  "use strict";

  // ---------------------------------------------------------------------------------- formulas

  /** Typeset one formula; a number beside it stays where it is. */
  function typeset(place) {
    const text = [...place.childNodes].filter((n) => n.nodeType === Node.TEXT_NODE && n.data.trim());
    const tex = text.map((n) => n.data).join("").trim();
    const display = /^\\\[/.test(tex) || place.tagName === "DIV";
    const source = tex.replace(/^\\[[(]/, "").replace(/\\[\])]$/, "");
    const box = document.createElement("span");
    box.className = "am-formula";
    text.forEach((n) => n.remove());
    place.append(box);
    window.katex.render(source, box, { displayMode: display, throwOnError: false, strict: "ignore" });
  }

  function typesetAll() {
    if (!window.katex) return;
    for (const place of document.querySelectorAll(".math.notranslate")) {
      if (!place.querySelector(".katex")) typeset(place);
    }
    // headings in the contents of a page carry their formulas as text
    for (const link of document.querySelectorAll(".bd-toc-nav a, .toctree-l1 a, .prev-next-title")) {
      if (!/\\\(.+?\\\)/.test(link.textContent)) continue;
      const parts = link.textContent.split(/\\\((.+?)\\\)/);
      link.replaceChildren(
        ...parts.map((part, i) => {
          if (i % 2 === 0) return part;
          const box = document.createElement("span");
          window.katex.render(part, box, { throwOnError: false, strict: "ignore" });
          return box;
        }),
      );
    }
  }

  // ------------------------------------------------------------------------- wide things scroll

  const WIDE =
    "div.math, .math.notranslate > .am-formula, .bd-article div.highlight pre, .am-scroll," +
    " .pst-scrollable-table-container, .bd-article .cell_output pre, dt.sig";

  /** A box that is wider than its place can be reached by Tab, and its edge fades. */
  function watch(box) {
    const slack = box.matches(".am-formula") ? 6 : 2; // KaTeX ends its lines with 2 empty pixels
    const look = () => {
      const rest = box.scrollWidth - box.clientWidth;
      const wide = rest > slack;
      box.classList.toggle("am-more-right", wide && box.scrollLeft < rest - 2);
      box.classList.toggle("am-more-left", wide && box.scrollLeft > 2);
      if (wide && !box.hasAttribute("tabindex")) {
        box.tabIndex = 0;
        if (!box.hasAttribute("role")) box.setAttribute("role", "group");
        if (!box.hasAttribute("aria-label")) box.setAttribute("aria-label", "wider than the page, scrolls sideways");
        box.dataset.amWide = "";
      } else if (!wide && "amWide" in box.dataset) {
        box.removeAttribute("tabindex");
        box.removeAttribute("role");
        box.removeAttribute("aria-label");
        delete box.dataset.amWide;
      }
    };
    box.addEventListener("scroll", look, { passive: true });
    new ResizeObserver(look).observe(box);
    document.fonts.ready.then(look); // a formula is wider once its typeface is there
    look();
  }

  /** A picture that would shrink until nobody can read it gets a box to scroll in. */
  function giveRoom() {
    for (const picture of document.querySelectorAll(".bd-article .cell_output img")) {
      const natural = parseFloat(picture.style.width || picture.getAttribute("width"));
      if (picture.closest(".am-movie, .explorable, .am-scroll") || !(natural >= 560)) continue;
      const box = document.createElement("div");
      box.className = "am-scroll";
      box.style.setProperty("--am-natural", `${natural}px`);
      const hint = document.createElement("p");
      hint.className = "am-swipe"; // a white drawing may fade where it is white
      hint.setAttribute("aria-hidden", "true");
      hint.textContent = "← the drawing is wider than the page →";
      picture.replaceWith(box, hint);
      box.append(picture);
    }
  }

  // -------------------------------------------------------------------------------------- print

  /** What the reader wants on paper: `?print=code,solutions`, or the boxes of the print dialog. */
  const wants = new Set((new URLSearchParams(location.search).get("print") || "").split(","));
  let before = null;

  function toPaper() {
    if (before) return;
    const html = document.documentElement;
    before = { theme: html.dataset.theme, opened: [], movies: [] };
    html.dataset.theme = "light";
    html.dataset.printCode = wants.has("code") ? "open" : "out";
    html.dataset.printSolutions = wants.has("solutions") ? "open" : "out";
    for (const picture of document.querySelectorAll("img[loading=lazy]")) picture.loading = "eager";
    for (const slider of document.querySelectorAll(".am-movie input[type=range]")) {
      before.movies.push([slider, slider.value]);
      turn(slider, slider.max); // paper shows where it ended
    }
    for (const fold of document.querySelectorAll("details:not([open])")) {
      const solution = fold.closest(".solution") || fold.matches(".solution");
      if (fold.matches(".hide") ? wants.has("code") || solution : true) {
        fold.open = true;
        before.opened.push(fold);
      }
    }
  }

  /** Pictures that the screen has not asked for yet are loaded first: paper does not wait for them. */
  function picturesAreHere() {
    const pictures = [...document.querySelectorAll(".bd-article img")];
    for (const picture of pictures) picture.loading = "eager";
    return Promise.allSettled(pictures.map((picture) => picture.decode()));
  }

  function turn(slider, value) {
    slider.value = value;
    slider.dispatchEvent(new Event("input", { bubbles: true }));
  }

  function toScreen() {
    if (!before) return;
    document.documentElement.dataset.theme = before.theme;
    for (const fold of before.opened) fold.open = false;
    for (const [slider, value] of before.movies) turn(slider, value);
    before = null;
  }

  function printDialog() {
    const dialog = document.createElement("dialog");
    dialog.className = "am-print";
    dialog.setAttribute("aria-labelledby", "am-print-title");
    dialog.innerHTML = `<form method="dialog"><h2 id="am-print-title">On paper</h2>
      <label><input type="checkbox" name="code"> with the code that is folded here</label>
      <label><input type="checkbox" name="solutions"> with the solutions of the exercises</label>
      <p><button value="print" class="am-go">Print</button> <button value="no">Not now</button></p></form>`;
    dialog.addEventListener("close", () => {
      if (dialog.returnValue !== "print") return;
      for (const box of dialog.querySelectorAll("input")) {
        if (box.checked) wants.add(box.name);
        else wants.delete(box.name);
      }
      picturesAreHere().then(() => window.print());
    });
    document.body.append(dialog);
    for (const button of document.querySelectorAll(".btn-download-pdf-button")) {
      button.onclick = null;
      button.removeAttribute("onclick");
      button.addEventListener("click", () => {
        dialog.returnValue = "";
        for (const box of dialog.querySelectorAll("input")) box.checked = wants.has(box.name);
        dialog.showModal();
      });
    }
  }

  window.addEventListener("beforeprint", toPaper);
  window.addEventListener("afterprint", toScreen);

  // -------------------------------------------------------------------------------------- start

  function start() {
    typesetAll();
    giveRoom();
    for (const box of document.querySelectorAll(WIDE)) watch(box);
    printDialog();
    document.documentElement.dataset.ready = "yes";
  }
  window.amToPaper = toPaper;
  if (document.readyState === "complete") start();
  else document.addEventListener("DOMContentLoaded", start);
})();
