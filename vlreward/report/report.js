"use strict";
for (const svg of document.querySelectorAll("svg[data-hover]")) {
  const { px = [], x = [], rows = [] } = JSON.parse(svg.dataset.hover);
  const tip = svg.parentElement.querySelector(".tip");
  const cursor = svg.querySelector(".cursor");
  let at = -1;

  const place = (index) => {
    at = Math.max(0, Math.min(px.length - 1, index));
    cursor.setAttribute("x1", px[at]);
    cursor.setAttribute("x2", px[at]);
    tip.replaceChildren(...[x[at], ...rows[at]].map((line) => Object.assign(document.createElement("span"), { textContent: line })));
    tip.hidden = false;
    const scale = svg.getBoundingClientRect().width / svg.viewBox.baseVal.width;
    const frame = svg.parentElement.getBoundingClientRect();
    const beside = svg.getBoundingClientRect().left - frame.left + px[at] * scale + 10;
    tip.style.left = Math.max(0, Math.min(frame.width - tip.offsetWidth - 2, beside)) + "px";
  };
  const leave = () => {
    at = -1;
    tip.hidden = true;
    cursor.setAttribute("x1", -9);
    cursor.setAttribute("x2", -9);
  };

  svg.addEventListener("pointermove", (event) => {
    if (!px.length) return;
    const box = svg.getBoundingClientRect();
    const here = ((event.clientX - box.left) / box.width) * svg.viewBox.baseVal.width;
    let nearest = 0;
    for (let i = 1; i < px.length; i++) if (Math.abs(px[i] - here) < Math.abs(px[nearest] - here)) nearest = i;
    place(nearest);
  });
  svg.addEventListener("pointerleave", leave);
  svg.addEventListener("blur", leave);
  svg.addEventListener("keydown", (event) => {
    const goal = { ArrowRight: at + 1, ArrowLeft: at < 0 ? px.length - 1 : at - 1, Home: 0, End: px.length - 1 }[event.key];
    if (event.key === "Escape") leave();
    if (goal === undefined || !px.length) return;
    event.preventDefault();
    place(goal);
  });
}
