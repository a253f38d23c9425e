"use strict";
(() => {
  const tip = document.getElementById("tip");
  const numbers = [...document.querySelectorAll(".number, .cell")];
  let shown = null, timer = 0;
  const show = each => {
    clearTimeout(timer);
    const about = document.getElementById(each.getAttribute("aria-describedby"));
    tip.textContent = [about.textContent.trim().replace(/\s+/g, " "), each.dataset.range].filter(Boolean).join("; ");
    tip.hidden = false;
    shown = each;
    const box = each.getBoundingClientRect(), own = tip.getBoundingClientRect();
    const below = box.bottom + own.height + 6 < innerHeight;
    tip.style.left = Math.max(8, Math.min(box.left, document.documentElement.clientWidth - own.width - 8)) + "px";
    tip.style.top = Math.max(8, below ? box.bottom + 4 : box.top - own.height - 4) + "px";
  };
  const hide = () => { tip.hidden = true; shown = null; };
  const later = () => { clearTimeout(timer); timer = setTimeout(hide, 150); };
  for (const each of numbers) {
    each.removeAttribute("title");
    each.addEventListener("focus", () => show(each));
    each.addEventListener("blur", hide);
    each.addEventListener("pointerenter", () => show(each));
    each.addEventListener("pointerleave", () => { if (each !== document.activeElement) later(); });
  }
  tip.addEventListener("pointerenter", () => clearTimeout(timer));
  tip.addEventListener("pointerleave", later);
  addEventListener("keydown", event => { if (event.key === "Escape") hide(); });
  addEventListener("scroll", () => { if (shown) show(shown); }, { capture: true, passive: true });

  // One stop per table for the Tab key; the arrow keys move between its numbers.
  for (const table of document.querySelectorAll("table")) {
    const rows = [...table.rows].map(row => [...row.querySelectorAll(".number, .cell")]).filter(row => row.length);
    rows.flat().slice(1).forEach(each => { each.tabIndex = -1; });
    table.addEventListener("keydown", event => {
      const y = rows.findIndex(row => row.includes(event.target));
      if (y < 0 || event.altKey || event.ctrlKey || event.metaKey) return;
      const x = rows[y].indexOf(event.target);
      const moves = {
        ArrowRight: [y, x + 1], ArrowLeft: [y, x - 1], ArrowDown: [y + 1, x], ArrowUp: [y - 1, x],
        Home: [y, 0], End: [y, rows[y].length - 1],
      };
      if (!(event.key in moves)) return;
      const row = rows[moves[event.key][0]];
      const next = row && row[Math.min(moves[event.key][1], event.key === "ArrowRight" ? Infinity : row.length - 1)];
      event.preventDefault();
      if (!next) return;
      event.target.tabIndex = -1;
      next.tabIndex = 0;
      next.focus();
      show(next);
    });
  }
})();
