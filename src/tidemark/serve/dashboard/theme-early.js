// Which theme does the first paint have? The one chosen before; a classic script, so that nothing flashes.
(() => {
  try {
    const chosen = localStorage.getItem("tidemark-theme");
    if (chosen === "light" || chosen === "dark") document.documentElement.dataset.theme = chosen;
  } catch {
    // Storage is switched off: the system's theme it is.
  }
})();
