
"use strict";
// Interactive figures. A figure that fails becomes one line.
for (const place of document.querySelectorAll(".plot")) {
  const { data, layout } = JSON.parse(place.querySelector("script").textContent);
  place.replaceChildren();
  new Promise((done) => done(Plotly.newPlot(place, data, layout, { responsive: true, displaylogo: false, modeBarButtons: [["toImage", "resetScale2d"]] })))
    .catch((error) => { place.textContent = `not drawn: ${error}`; place.style.minHeight = "0"; });
}
// Tables that a click on the name of a column sorts: numbers before text, "-" at the end.
const numberOf = (text) => (/^[-+\d]/.test(text) ? Number(text.replaceAll(",", "")) : NaN);
function compare(a, b, sign) {
  if (a === "-" || b === "-") return (a === "-") - (b === "-");
  const [x, y] = [numberOf(a), numberOf(b)];
  if (isNaN(x) && isNaN(y)) return sign * a.localeCompare(b, undefined, { numeric: true });
  return isNaN(x) || isNaN(y) ? isNaN(x) - isNaN(y) : sign * (x - y);
}
for (const head of document.querySelectorAll(".sortable th")) {
  const button = document.createElement("button");
  button.append(...head.childNodes);
  head.append(button);
  button.onclick = () => {
    const orders = head.className === "number" ? ["descending", "ascending"] : ["ascending", "descending"];
    const order = orders[Number(head.ariaSort === orders[0])];
    for (const other of head.parentNode.children) other.ariaSort = null;
    head.ariaSort = order;
    const body = head.closest("table").tBodies[0], column = head.cellIndex, sign = order === "ascending" ? 1 : -1;
    const text = (row) => row.cells[column].textContent;
    body.append(...[...body.rows].sort((a, b) => compare(text(a), text(b), sign)));
  };
}
// Commands with a button that copies them, or selects them where the browser allows no copying.
for (const block of document.querySelectorAll(".command")) {
  const button = document.createElement("button");
  button.textContent = "copy";
  button.onclick = async () => {
    getSelection().selectAllChildren(block.firstChild);
    try {
      await navigator.clipboard.writeText(block.firstChild.textContent);
      button.textContent = "copied";
    } catch {
      button.textContent = "selected";
    }
  };
  block.append(button);
}
