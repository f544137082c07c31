// How are elements made and found?

/** An element with attributes (functions become listeners, true an empty attribute) and children. */
export function h(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value == null || value === false) continue;
    if (typeof value === "function") element.addEventListener(name, value);
    else element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.filter((child) => child != null));
  return element;
}

/** The element with data-field="name" below `root`. */
export const field = (root, name) => root.querySelector(`[data-field="${name}"]`);

/** Write a text where it changed: what did not change is not touched, nor selected text lost. */
export function write(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

/** Put the template's content into `place` and return `place`. */
export function stamp(place, template) {
  place.replaceChildren(document.getElementById(template).content.cloneNode(true));
  return place;
}

/** A row of buttons of which one is pressed. `choices` is [value, label, title?]; returns a function that presses one. */
export function choice(place, choices, chosen) {
  const buttons = new Map();
  for (const [value, label, title] of choices) {
    const button = h("button", { type: "button", "aria-pressed": "false", title, click: () => chosen(value) }, label);
    buttons.set(value, button);
    place.append(button);
  }
  return (now) => {
    for (const [value, button] of buttons) button.setAttribute("aria-pressed", String(value === now));
  };
}

/** Let the reader keep a file. */
export function save(blob, name) {
  const url = URL.createObjectURL(blob);
  const link = h("a", { href: url, download: name });
  document.body.append(link);
  link.click();
  link.remove();
  setTimeout(() => URL.revokeObjectURL(url), 10_000);
}
