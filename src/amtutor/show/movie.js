for (const root of document.querySelectorAll('[data-movie="MOVIE_KEY"]:not([data-ready])')) {
  root.dataset.ready = "";
  const data = JSON.parse(root.querySelector("script").textContent);
  const [height, width] = data.size;
  const last = data.steps.length - 1;
  const slider = root.querySelector("input");
  const button = root.querySelector("button");
  const step = root.querySelector(".am-movie-step");
  const cards = [...root.querySelectorAll(".am-movie-card")].map((card, q) => {
    const still = card.querySelector("img");
    const canvas = document.createElement("canvas");
    Object.assign(canvas, { className: still.className, width, height });
    canvas.setAttribute("role", "img");
    const strip = new Image();
    const points = card.querySelector("polyline").getAttribute("points").split(" ");
    const [dot, number] = [card.querySelector("circle"), card.querySelector(".am-movie-energy span")];
    const title = card.querySelector("figcaption")?.textContent || "state";
    strip.onload = () => { still.replaceWith(canvas); draw(); };
    function draw() {
      const i = +slider.value, [x, y] = points[i].split(",");
      canvas.getContext("2d").drawImage(strip, 0, -i * height);
      canvas.setAttribute("aria-label", title + " after step " + data.steps[i]);
      dot.setAttribute("cx", x);
      dot.setAttribute("cy", y);
      number.textContent = data.energies[q][i];
    }
    strip.src = data.strips[q];
    return draw;
  });
  const calm = matchMedia("(prefers-reduced-motion: reduce)").matches;
  let timer = 0;
  function go(i) {
    slider.value = i;
    step.textContent = data.steps[i];
    slider.setAttribute("aria-valuetext", "step " + data.steps[i]);
    cards.forEach((draw) => draw());
  }
  function stop() { clearInterval(timer); timer = 0; button.textContent = "Play"; }
  function play() {
    if (+slider.value === last) go(0);
    button.textContent = "Pause";
    timer = setInterval(() => { +slider.value < last ? go(+slider.value + 1) : stop(); }, 1000 / (calm ? Math.min(2, data.fps) : data.fps));
  }
  button.onclick = () => (timer ? stop() : play());
  slider.oninput = () => { stop(); go(+slider.value); };
  root.querySelector(".am-movie-hands").hidden = false;
  go(0);
}
