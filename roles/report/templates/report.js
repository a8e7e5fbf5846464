// Filters and sorts the node tables. Without it the page shows the same, the worst first.
(function () {
  var tables = Array.prototype.slice.call(document.querySelectorAll("table.nodes"));
  var find = document.getElementById("find"), fold = document.querySelector("#nodes details.folded");
  if (!find || !tables.length) { return; }
  var field = find.querySelector("input");
  find.hidden = false;
  field.addEventListener("input", function () {
    var words = field.value.toLowerCase().split(/\s+/);
    tables.forEach(function (table) {
      Array.prototype.forEach.call(table.tBodies[0].rows, function (row) {
        var text = row.textContent.toLowerCase();
        row.hidden = !words.every(function (word) { return text.indexOf(word) >= 0; });
      });
    });
    if (fold) { fold.open = field.value !== ""; }
  });
  function sort(table, column, up) {
    var body = table.tBodies[0], rows = Array.prototype.slice.call(body.rows);
    rows.sort(function (a, b) {
      var left = a.cells[column].textContent.trim(), right = b.cells[column].textContent.trim();
      return left.localeCompare(right, undefined, { numeric: true }) * (up ? 1 : -1);
    });
    rows.forEach(function (row) { body.appendChild(row); });
  }
  tables.forEach(function (table) {
    Array.prototype.forEach.call(table.tHead.rows[0].cells, function (head, column) {
      var button = document.createElement("button"), up = false;
      button.type = "button";
      while (head.firstChild) { button.appendChild(head.firstChild); }
      head.appendChild(button);
      button.addEventListener("click", function () {
        up = !up;
        Array.prototype.forEach.call(table.tHead.rows[0].cells, function (other) { other.removeAttribute("aria-sort"); });
        head.setAttribute("aria-sort", up ? "ascending" : "descending");
        sort(table, column, up);
      });
    });
  });
})();
