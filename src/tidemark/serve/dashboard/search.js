// Whom does the reader mean? A box that answers while one types, by pk or by the beginning of a username.

import { get, address } from "./api.js";
import { h } from "./dom.js";
import { count } from "./format.js";

const WAIT_MS = 120; // between two keys of somebody who types
const LIMIT = 8;
let boxes = 0;

/**
 * Put a search box (an ARIA combobox) into `place`. `chosen(influencer)` is called with whom the reader took.
 * Returns the input.
 */
export function install(place, { label, placeholder, chosen }) {
  const id = `search-${++boxes}`;
  let found = [];
  let foundFor = ""; // the text that `found` answers
  let active = -1;
  let timer = 0;
  let under = null;
  const list = h("ul", { id: `${id}-list`, role: "listbox", "aria-label": label, hidden: true });
  const hint = h("p", { class: "search-hint", hidden: true });
  const status = h("p", { class: "hidden", role: "status" });
  const input = h("input", {
    type: "search",
    id,
    role: "combobox",
    "aria-label": label,
    "aria-autocomplete": "list",
    "aria-expanded": "false",
    "aria-controls": `${id}-list`,
    placeholder,
    autocomplete: "off",
    autocapitalize: "none",
    spellcheck: "false",
    enterkeyhint: "go",
    maxlength: "64",
    input: () => {
      clearTimeout(timer);
      timer = setTimeout(ask, WAIT_MS);
    },
    keydown: key,
    focus: () => input.value && ask(),
    blur: close,
  });
  place.append(h("div", { class: "combobox" }, input, list, hint, status));
  return input;

  async function ask() {
    clearTimeout(timer);
    under?.abort();
    const text = input.value.trim();
    if (!text) return close();
    const asking = (under = new AbortController());
    try {
      const answer = await get(address("/v1/influencers", { search: text, limit: LIMIT }), { signal: asking.signal });
      if (under === asking && document.activeElement === input) show(answer.items, text);
    } catch (error) {
      if (!asking.signal.aborted) say("The search does not answer just now.");
    }
  }

  function show(items, text) {
    found = items;
    foundFor = text;
    active = items.length ? 0 : -1;
    list.replaceChildren(
      ...items.map((item, index) =>
        h(
          "li",
          {
            role: "option",
            id: `${id}-${index}`,
            "aria-selected": String(index === active),
            pointerdown: (event) => event.preventDefault(), // the input keeps the focus
            click: () => take(index),
          },
          h("span", { class: "name" }, item.username ?? `pk ${item.pk}`),
          h("span", { class: "pk" }, `pk ${item.pk}`),
          h("span", { class: "number" }, count(item.followerCount)),
        ),
      ),
    );
    if (!items.length) return say(`Nobody observed begins with “${text}”.`);
    hint.hidden = true;
    list.hidden = false;
    input.setAttribute("aria-expanded", "true");
    status.textContent = `${items.length === LIMIT ? `first ${LIMIT}` : items.length} found`;
    mark();
  }

  function say(text) {
    close();
    hint.textContent = text;
    hint.hidden = false;
    status.textContent = text;
  }

  function mark() {
    [...list.children].forEach((option, index) => option.setAttribute("aria-selected", String(index === active)));
    if (active >= 0) {
      input.setAttribute("aria-activedescendant", `${id}-${active}`);
      list.children[active].scrollIntoView({ block: "nearest" });
    } else input.removeAttribute("aria-activedescendant");
  }

  function close() {
    list.hidden = true;
    hint.hidden = true;
    input.setAttribute("aria-expanded", "false");
    input.removeAttribute("aria-activedescendant");
  }

  function take(index) {
    const item = found[index];
    close();
    input.value = "";
    found = [];
    chosen(item);
  }

  async function key(event) {
    if (event.key === "ArrowDown" || event.key === "ArrowUp") {
      event.preventDefault();
      if (list.hidden) return input.value && ask();
      active = (active + (event.key === "ArrowDown" ? 1 : -1) + found.length) % found.length;
      mark();
    } else if (event.key === "Enter") {
      event.preventDefault();
      const isMeant = () => !list.hidden && foundFor === input.value.trim();
      if (!isMeant()) await ask(); // typed faster than the answer came: what is listed is somebody else
      if (isMeant() && active >= 0) take(active);
    } else if (event.key === "Escape") {
      if (list.hidden) input.value = "";
      close();
    }
  }
}
