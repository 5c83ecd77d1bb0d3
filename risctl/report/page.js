"use strict";
// Sort a table by a column: numbers by their first number, everything else as text.
const value = (cell) => {
  const text = cell.textContent.trim();
  const number = parseFloat(text.replace(/^[^\d.+-]*/, ""));
  return Number.isNaN(number) ? text : number;
};
for (const table of document.querySelectorAll("table.sortable")) {
  table.querySelectorAll("thead th").forEach((head, column) => {
    head.querySelector("button").addEventListener("click", () => {
      const up = head.getAttribute("aria-sort") !== "ascending";
      table.querySelectorAll("thead th").forEach((other) => other.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", up ? "ascending" : "descending");
      const body = table.tBodies[0];
      const rows = [...body.rows].map((row) => [value(row.cells[column]), row]);
      rows.sort(([a], [b]) => (typeof a === typeof b ? (a > b) - (a < b) : typeof a === "string" ? 1 : -1));
      if (!up) rows.reverse();
      body.append(...rows.map(([, row]) => row));
    });
  });
}
