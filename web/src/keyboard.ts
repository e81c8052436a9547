// Keys of the whole page. Keys that move the camera belong to the scene.

import { element } from "./elements";
import { readText } from "./files";

/** Connects keys to actions; while someone writes, or in a dialog, they do nothing. */
export function connectKeys(actions: Record<string, () => void>): void {
  document.addEventListener("keydown", (event) => {
    const target = event.target as HTMLElement;
    const writes = target instanceof HTMLInputElement && target.type !== "range";
    if (event.ctrlKey || event.metaKey || event.altKey || document.querySelector("dialog[open]") !== null) {
      return;
    }
    if (event.key === "Escape" && writes) {
      element("scene").focus();
      return;
    }
    const action = actions[event.key.toLowerCase()];
    if (action !== undefined && !writes && !(target instanceof HTMLSelectElement)) {
      event.preventDefault();
      action();
    }
  });
}

/** Connects the sheet with all keys. */
export function connectHelp(): () => void {
  const dialog = element<HTMLDialogElement>("help");
  element("help-button").addEventListener("click", () => dialog.showModal());
  element("help-close").addEventListener("click", () => dialog.close());
  element("licenses").addEventListener("toggle", () => {
    void readText("licenses.txt").then((text) => (element("licenses-text").textContent = text));
  });
  dialog.addEventListener("click", (event) => {
    if (event.target === dialog) dialog.close();
  });
  return () => dialog.showModal();
}
