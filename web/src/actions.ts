// The buttons: isolate, hide, show all, next peak, save, copy the command.

import type { Asking } from "./asking";
import { STOPPED, type Client } from "./client";
import { exportCommand } from "./command";
import { FoundError, messageOf } from "./errors";
import { poseAtPeak, type Flight } from "./flight";
import { Look } from "./renderer";
import type { Scene } from "./scene";
import type { Peak } from "./selection";

export class Actions {
  private peaks: { id: string; found: Peak[]; next: number } | null = null;

  constructor(
    private readonly scene: Scene,
    private readonly asking: Asking,
    private readonly flight: Flight,
    private readonly client: Client | null,
  ) {}

  /** Runs an action and says what it did, or why not. */
  async run(action: () => Promise<string>): Promise<void> {
    try {
      this.asking.say(await action());
    } catch (error) {
      this.asking.say(messageOf(error), true);
    }
  }

  async isolate(): Promise<string> {
    const keep = await this.asking.select();
    this.show(
      keep.map((one) => 1 - one),
      true,
    );
    const [only] = this.asking.facts;
    const leftOut = this.asking.facts.length === 1 && only.count > countOf(keep);
    return (
      `Only the ${numberOf(keep)} splats that were found are shown.` +
      (leftOut ? " Small groups apart from them are left out." : "")
    );
  }

  async hide(): Promise<string> {
    const keep = await this.asking.select();
    const before = this.asking.state.hidden;
    this.show(before === null ? keep : keep.map((one, index) => one | before[index]));
    return `${numberOf(keep)} splats are hidden.`;
  }

  async showAll(): Promise<string> {
    this.show(null);
    await this.asking.paint();
    return "Everything is shown.";
  }

  /** Shows what is not hidden in its own colors, because it is what was asked for, or what remains. */
  private show(hidden: Uint8Array<ArrayBuffer> | null, isolated = false): void {
    this.asking.hide(hidden, isolated);
    this.asking.stage.setLook(Look.Colors);
    this.asking.onChange();
  }

  async nextPeak(): Promise<string> {
    const question = this.asking.requireQuestion();
    const id = JSON.stringify(question);
    if (this.peaks?.id !== id) {
      this.peaks = { id, found: await this.asking.answers.ask({ kind: "peaks", question }), next: 0 };
    }
    const { found, next } = this.peaks;
    const pose = this.asking.stage.pose;
    if (found.length === 0 || pose === null) {
      throw new FoundError("Nothing is above the threshold. Lower it under Settings.");
    }
    this.peaks.next = (next + 1) % found.length;
    this.flight.to(poseAtPeak(found[next], this.scene.views, pose, this.scene.up));
    return `Place ${next + 1} of ${found.length}: relevancy ${found[next].score.toFixed(2)}.`;
  }

  /** Saves what was found: by the server, or in the browser if there is none. */
  async save(format: "ply" | "spz"): Promise<string> {
    const keep = await this.asking.select();
    const name = fileNameOf(this.asking.state.shown.map(({ text }) => text)) + `.${format}`;
    download(await this.fileOf(format, keep), name);
    return `${numberOf(keep)} splats are saved as ${name}.`;
  }

  private async fileOf(format: "ply" | "spz", keep: Uint8Array<ArrayBuffer>): Promise<Blob> {
    if (this.client !== null) {
      try {
        return await this.client.export(format, bitsOf(keep));
      } catch (error) {
        // The page has the splats too, at the precision of its file.
        if (messageOf(error) !== STOPPED) {
          throw error;
        }
      }
    }
    return new Blob([await this.asking.stage.splats.ask({ kind: "save", format, keep })]);
  }

  async copyCommand(): Promise<string> {
    const question = this.asking.requireQuestion();
    const texts = this.asking.state.shown.filter(({ key, text }) => key === text).map(({ text }) => text);
    if (texts.length === 0) {
      throw new FoundError("The command needs a text; a click on a thing has none.");
    }
    const command = exportCommand(this.scene, texts, question);
    try {
      await navigator.clipboard.writeText(command);
    } catch (error) {
      console.info(error);
      return command;
    }
    return `Copied: ${command}`;
  }
}

/** A bit a splat, the first in the highest bit. */
export function bitsOf(keep: Uint8Array): Uint8Array<ArrayBuffer> {
  const bits = new Uint8Array(Math.ceil(keep.length / 8));
  keep.forEach((one, index) => {
    bits[index >> 3] |= one << (7 - (index & 7));
  });
  return bits;
}

/** A file name from texts, with letters and digits of any language. */
export function fileNameOf(texts: string[]): string {
  const words = texts.join(" ").replace(/[^\p{L}\p{N}]+/gu, "-").replace(/^-+|-+$/g, "");
  return words.slice(0, 60) || "selection";
}

function countOf(keep: Uint8Array): number {
  return keep.reduce((sum, one) => sum + one, 0);
}

function numberOf(keep: Uint8Array): string {
  return countOf(keep).toLocaleString("en");
}

function download(blob: Blob, name: string): void {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(blob);
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
}
