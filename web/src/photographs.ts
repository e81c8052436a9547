// The strip of photographs to jump to.

import { element, made } from "./elements";
import { imageAddress } from "./files";
import type { View } from "./scene";

/** Thumbnails that are read at once. */
const AT_ONCE = 3;

export class Photographs {
  current = 0;
  private readonly buttons: HTMLButtonElement[];

  constructor(
    private readonly views: View[],
    private readonly onChoose: (index: number) => void,
  ) {
    this.buttons = views.map((view, index) => {
      const button = made("button");
      button.type = "button";
      button.title = view.split === "eval" ? `${view.name} (held out)` : view.name;
      button.setAttribute("aria-label", `Photograph ${button.title}`);
      button.append(made("span", "label", String(index + 1)));
      button.addEventListener("click", () => this.choose(index));
      return button;
    });
    element("photographs").replaceChildren(...this.buttons);
    this.mark(0);
  }

  /** Goes a number of photographs on. */
  step(steps: number): void {
    if (this.views.length > 0) {
      this.choose((this.current + steps + this.views.length) % this.views.length);
    }
  }

  choose(index: number): void {
    this.mark(index);
    this.buttons[index]?.scrollIntoView({ block: "nearest", inline: "nearest" });
    this.onChoose(index);
  }

  private mark(index: number): void {
    this.current = index;
    this.buttons.forEach((button, other) => button.setAttribute("aria-current", String(other === index)));
  }

  /** Reads the thumbnails, a few at once. A missing one leaves its number. */
  async load(): Promise<void> {
    const waiting = this.views.map((view, index) => ({ view, index }));
    const work = async (): Promise<void> => {
      for (let next = waiting.shift(); next !== undefined; next = waiting.shift()) {
        if (next.view.thumbnail !== null) {
          await this.loadOne(next.view.thumbnail, next.index);
        }
      }
    };
    await Promise.all(Array.from({ length: AT_ONCE }, work));
  }

  private async loadOne(name: string, index: number): Promise<void> {
    try {
      const image = made("img");
      image.alt = "";
      image.src = await imageAddress(name);
      await image.decode();
      this.buttons[index].replaceChildren(image);
    } catch (error) {
      console.info(`${name} is not shown:`, error);
    }
  }
}
