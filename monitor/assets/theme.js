// Runs before the first paint, so that a chosen theme does not flash the other one.
(() => {
  "use strict";
  const KEY = "etcd-sync-monitor.theme";
  const read = () => {
    try {
      return localStorage.getItem(KEY) ?? "auto";
    } catch {
      return "auto"; // Storage is refused: then the system's theme it is.
    }
  };
  const apply = (theme) => {
    if (theme === "light" || theme === "dark") document.documentElement.dataset.theme = theme;
    else delete document.documentElement.dataset.theme;
  };
  apply(read());
  document.addEventListener("DOMContentLoaded", () => {
    for (const input of document.querySelectorAll("#theme input")) {
      input.checked = input.value === read();
      input.addEventListener("change", () => {
        apply(input.value);
        try {
          localStorage.setItem(KEY, input.value);
        } catch {
          // Then it holds for this page only.
        }
      });
    }
    if (!document.querySelector("#theme input:checked")) document.querySelector("#theme input")?.click();
  });
})();
