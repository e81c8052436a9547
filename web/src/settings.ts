// The settings under the texts: threshold, softness, level, look, negatives.

import type { Asking } from "./asking";
import { element, made } from "./elements";
import { heatGradient } from "./heat";
import type { Scene } from "./scene";
import { splitTexts } from "./state";

/** Connects the controls; pages whose scores are joined already have neither levels nor negatives. */
export function connectSettings(scene: Scene, asking: Asking): void {
  const { state } = asking;
  for (const name of ["threshold", "softness"] as const) {
    const slider = element<HTMLInputElement>(name);
    const show = (): void => {
      element(`${name}-value`).textContent = state[name].toFixed(2);
    };
    slider.value = String(state[name]);
    show();
    slider.addEventListener("input", () => {
      state[name] = Number(slider.value);
      show();
      void asking.paint();
    });
  }

  const look = element<HTMLSelectElement>("look");
  element("legend-bar").style.background = heatGradient;
  look.addEventListener("change", () => {
    state.heat = look.value === "heat";
    element("legend").hidden = !state.heat;
    void asking.paint();
  });

  const level = element<HTMLSelectElement>("level");
  level.replaceChildren(
    ...["mean", "auto", ...scene.levels].map((name) => {
      const option = made("option", "", name);
      option.value = name;
      return option;
    }),
  );
  level.value = state.level;
  level.addEventListener("change", () => {
    state.level = level.value;
    void asking.paint();
  });

  const negatives = element<HTMLInputElement>("negatives");
  const form = element<HTMLFormElement>("negatives-form");
  negatives.value = state.negatives.join("; ");
  const change = (): void => {
    const texts = splitTexts(negatives.value);
    if (texts.length === 0) {
      asking.say("Texts need at least one other to be compared with.", true);
    } else if (texts.join(";") !== asking.compared.join(";")) {
      void asking.compareWith(texts);
    }
  };
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    change();
  });
  negatives.addEventListener("change", change);

  if (!scene.live) {
    form.hidden = true;
    level.hidden = true;
    document.querySelector<HTMLElement>('label[for="level"]')?.setAttribute("hidden", "");
  }
}
