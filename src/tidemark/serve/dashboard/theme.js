// Light or dark? What the system prefers, until the reader chooses; the choice is remembered.

const KEY = "tidemark-theme";
const system = matchMedia("(prefers-color-scheme: dark)");

/** "light" or "dark", as shown now. */
export function shown() {
  return document.documentElement.dataset.theme ?? (system.matches ? "dark" : "light");
}

/** Make the button switch the theme; `changed` is called after every change, the system's too. */
export function install(button, changed) {
  const label = () => {
    const other = shown() === "dark" ? "light" : "dark";
    button.setAttribute("aria-label", `Switch to the ${other} theme`);
    button.title = `Switch to the ${other} theme`;
  };
  button.addEventListener("click", () => {
    const other = shown() === "dark" ? "light" : "dark";
    document.documentElement.dataset.theme = other;
    try {
      localStorage.setItem(KEY, other);
    } catch {
      // Storage is switched off: the choice holds for this page only.
    }
    label();
    changed();
  });
  system.addEventListener("change", () => {
    label();
    changed();
  });
  label();
}

/** The value of a colour token such as "--accent" in the present theme, as the canvas understands it. */
export function colour(token) {
  const probe = document.createElement("span");
  probe.style.color = `var(${token})`;
  document.body.append(probe);
  const value = getComputedStyle(probe).color;
  probe.remove();
  return value;
}
