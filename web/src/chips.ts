// The texts as chips: switched on and off, and removed.

import { button, element, made } from "./elements";
import type { Chip } from "./state";

/** Shows the chips anew. The focus stays on the same button of the same chip, or goes to the text box. */
export function showChips(chips: Chip[], onToggle: (chip: Chip) => void, onRemove: (chip: Chip) => void): void {
  const list = element("chips");
  const focused = document.activeElement as HTMLElement | null;
  const inside = focused !== null && list.contains(focused);
  const [key, part] = [focused?.dataset["key"], focused?.dataset["part"]];
  list.replaceChildren(...chips.map((chip) => shownChip(chip, () => onToggle(chip), () => onRemove(chip))));
  if (inside) {
    const buttons = [...list.querySelectorAll<HTMLElement>("button")];
    const again = buttons.find((other) => other.dataset["key"] === key && other.dataset["part"] === part);
    (again ?? element("text")).focus();
  }
}

function shownChip(chip: Chip, onToggle: () => void, onRemove: () => void): HTMLElement {
  const item = made("li", chip.waiting ? "chip waiting" : "chip");
  const toggle = button("toggle", "", onToggle);
  toggle.setAttribute("aria-pressed", String(chip.on));
  toggle.title = chip.on ? `Switch "${chip.text}" off` : `Switch "${chip.text}" on`;
  const dot = made("span", "dot");
  dot.style.setProperty("--color", `rgb(${chip.color.join(" ")})`);
  dot.setAttribute("aria-hidden", "true");
  toggle.append(dot, made("span", "", chip.text));
  const remove = button("remove", "✕", onRemove);
  remove.setAttribute("aria-label", `Remove ${chip.text}`);
  toggle.dataset["part"] = "toggle";
  remove.dataset["part"] = "remove";
  toggle.dataset["key"] = remove.dataset["key"] = chip.key;
  item.append(toggle, remove);
  return item;
}
