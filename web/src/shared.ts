// What is different in a shared page: its texts are given.

import type { Asking } from "./asking";
import { button, element, made } from "./elements";
import type { Scene } from "./scene";

/** Shows the given texts as buttons, and the vocabulary in the text box. */
export function connectGivenTexts(scene: Scene, asking: Asking): () => void {
  const given = scene.answers.filter(({ list }) => list === "texts");
  const buttons = given.map(({ text }) => button("", text, () => void asking.ask(text)));
  element("given").replaceChildren(...buttons);
  element("given").hidden = given.length === 0;
  const words = scene.answers.filter(({ list }) => list === "vocabulary");
  element("ask").hidden = words.length === 0;
  element("text").setAttribute("placeholder", "Search its words");
  element("words").replaceChildren(
    ...scene.answers.map(({ text }) => {
      const option = made("option");
      option.value = text;
      return option;
    }),
  );
  element("given").setAttribute("aria-label", "Texts of this page");
  return () => {
    // A text that is asked stands among the chips instead.
    buttons.forEach((shown, index) => (shown.hidden = asking.state.find(given[index].text) !== undefined));
  };
}

/** The texts of a shared page that a line means: the same, or else the shortest that has it inside. */
export function closestTexts(scene: Scene, line: string): string {
  const known = scene.answers.map(({ text }) => text);
  return line
    .split(";")
    .map((part) => {
      const wanted = part.trim().toLowerCase();
      const same = known.find((text) => text.toLowerCase() === wanted);
      const inside = known.filter((text) => wanted !== "" && text.toLowerCase().includes(wanted));
      return same ?? inside.sort((a, b) => a.length - b.length)[0] ?? part.trim();
    })
    .join(";");
}
