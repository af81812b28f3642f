"use strict";
// Sorts a table by the column whose head is clicked, or chosen with the keyboard: the heads hold buttons.
(function () {
  function keyOf(row, place) {
    const cell = row.cells[place];
    const text = cell.dataset.key === undefined ? cell.textContent.trim() : cell.dataset.key;
    const value = text === "-inf" ? -Infinity : Number(text);
    return text === "" || Number.isNaN(value) ? text : value;
  }
  function compare(first, second) {
    if (typeof first === "number" && typeof second === "number") return first < second ? -1 : first > second ? 1 : 0;
    if (typeof first !== typeof second) return typeof first === "number" ? -1 : 1;
    return first.localeCompare(second);
  }
  function sort(head) {
    const place = head.cellIndex;
    const body = head.closest("table").tBodies[0];
    const rows = Array.from(body.rows, (row) => ({ row, key: keyOf(row, place) }));
    const known = rows.filter((entry) => entry.key !== -Infinity);
    // Numbers start with the largest, names with the first; what is absent always stands last.
    const state = head.getAttribute("aria-sort");
    const numbers = known.length > 0 && known.every((entry) => typeof entry.key === "number");
    const descending = state ? state === "ascending" : numbers;
    known.sort((a, b) => (descending ? compare(b.key, a.key) : compare(a.key, b.key)));
    const absent = rows.filter((entry) => entry.key === -Infinity);
    body.append(...known.concat(absent).map((entry) => entry.row));
    for (const other of head.parentNode.cells) other.removeAttribute("aria-sort");
    head.setAttribute("aria-sort", descending ? "descending" : "ascending");
  }
  for (const button of document.querySelectorAll("table.sortable thead button")) {
    button.addEventListener("click", () => sort(button.closest("th")));
  }
})();
