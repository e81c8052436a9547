// A click on the scene: what is here, and what looks like this.

import type { Asking } from "./asking";
import { directionThrough } from "./camera";
import { OutdatedError, type Client } from "./client";
import { button, element, made } from "./elements";
import { messageOf } from "./errors";
import type { Scene, Vector } from "./scene";

/** Names that are shown. */
const NAMES = 5;

export class Clicks {
  private readonly dialog = element<HTMLDialogElement>("click");
  private ray: { origin: Vector; direction: Vector } | null = null;
  private number = 0;
  private likes = 0;

  constructor(
    private readonly scene: Scene,
    private readonly asking: Asking,
    private readonly client: Client | null,
  ) {
    element("click-close").addEventListener("click", () => this.dialog.close());
    element("click-like").addEventListener("click", () => void this.like());
    element("click-like").hidden = client === null;
    this.dialog.addEventListener("click", (event) => {
      if (event.target === this.dialog) this.dialog.close();
    });
  }

  /** Answers a click at a place of the picture, -1 to 1 to the right and up. */
  async at(x: number, y: number, clientX: number, clientY: number): Promise<void> {
    const { stage } = this.asking;
    if (stage.pose === null) {
      return;
    }
    const number = ++this.number;
    const origin = stage.pose.position;
    const direction = directionThrough(stage.pose, x - stage.shift[0], y - stage.shift[1], stage.aspect);
    this.ray = { origin, direction };
    this.show([], "Looking ...", clientX, clientY);
    try {
      const names = this.client === null ? await this.ownNames() : await this.serverNames(this.client);
      if (number === this.number && this.dialog.open) {
        this.show(names, "Nothing is known here.", clientX, clientY);
      }
    } catch (error) {
      if (!(error instanceof OutdatedError)) {
        this.dialog.close();
        this.asking.say(messageOf(error), true);
      }
    }
  }

  private async serverNames(client: Client): Promise<{ text: string; score: number }[]> {
    const { origin, direction } = this.requireRay();
    return (await client.here(origin, direction, this.asking.state.level)).names.slice(0, NAMES);
  }

  /** The page's own texts that fit what is there. */
  private async ownNames(): Promise<{ text: string; score: number }[]> {
    const { stage, answers, texts, state } = this.asking;
    const { splats, weights } = await stage.splats.ask({ kind: "pick", ...this.requireRay() });
    if (splats.length === 0) {
      return [];
    }
    const keys = this.scene.answers.map(({ text }) => text);
    await texts.fetch(keys);
    const found = await answers.ask({ kind: "names", keys, question: state.question(), splats, weights });
    return found.slice(0, NAMES).map(({ key, score }) => ({ text: key, score }));
  }

  private requireRay(): { origin: Vector; direction: Vector } {
    if (this.ray === null) {
      throw new Error("There was no click.");
    }
    return this.ray;
  }

  private show(names: { text: string; score: number }[], otherwise: string, clientX: number, clientY: number): void {
    const rows = names.map(({ text, score }) => {
      const row = made("li");
      const choose = button("", "", () => {
        this.dialog.close();
        void this.asking.ask(text);
      });
      choose.append(made("span", "", text), made("span", "score", score.toFixed(2)));
      choose.title = `Find "${text}"`;
      row.append(choose);
      return row;
    });
    element("click-names").replaceChildren(...(rows.length > 0 ? rows : [made("li", "", otherwise)]));
    if (!this.dialog.open) {
      this.dialog.showModal();
    }
    const { width, height } = this.dialog.getBoundingClientRect();
    const within = (value: number, size: number, room: number): string =>
      `${Math.max(8, Math.min(value, room - size - 8))}px`;
    this.dialog.style.left = within(clientX + 12, width, innerWidth);
    this.dialog.style.top = within(clientY + 12, height, innerHeight);
  }

  private async like(): Promise<void> {
    const { origin, direction } = this.requireRay();
    this.dialog.close();
    if (this.client === null) {
      return;
    }
    this.asking.say("Looking for what looks like this ...");
    try {
      const file = await this.client.like(origin, direction, this.asking.state.level);
      const key = `\u0000like ${++this.likes}`;
      await this.asking.answers.ask({ kind: "learn", file, keys: [key] }, [file.buffer]);
      await this.asking.addKnown(this.likes === 1 ? "like the clicked thing" : `like the clicked thing ${this.likes}`, key);
    } catch (error) {
      if (!(error instanceof OutdatedError)) {
        this.asking.say(messageOf(error), true);
      }
    }
  }
}
