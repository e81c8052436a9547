// Elements of the page. What comes from outside is only ever set as text.

/** The element with an id, which index.html has. */
export function element<Kind extends HTMLElement = HTMLElement>(id: string): Kind {
  const found = document.getElementById(id);
  if (found === null) {
    throw new Error(`The page has no element "${id}".`);
  }
  return found as Kind;
}

/** Makes an element with classes and a text. */
export function made<Tag extends keyof HTMLElementTagNameMap>(
  tag: Tag,
  className = "",
  text = "",
): HTMLElementTagNameMap[Tag] {
  const created = document.createElement(tag);
  created.className = className;
  created.textContent = text;
  return created;
}

/** Makes a button that does something. */
export function button(className: string, text: string, action: () => void): HTMLButtonElement {
  const created = made("button", className, text);
  created.type = "button";
  created.addEventListener("click", action);
  return created;
}
