// What is asked, and how it is shown. Whoever changes it calls `changed`.

import type { Question } from "./answering";
import type { Scene } from "./scene";

export interface Chip {
  /** Names the scores in the answers' worker. */
  key: string;
  text: string;
  color: [number, number, number];
  on: boolean;
  waiting: boolean;
}

/** Colors of the texts: bright on dark and light grounds. */
const COLORS: [number, number, number][] = [
  [255, 132, 26],
  [26, 172, 255],
  [46, 204, 113],
  [240, 74, 152],
  [250, 204, 40],
  [155, 117, 255],
  [255, 84, 72],
  [32, 208, 190],
];

export class State {
  chips: Chip[] = [];
  level: string;
  threshold: number;
  softness: number;
  heat = false;
  /** The texts that answers are compared with. */
  negatives: string[];
  /** Splats that are not shown: 1 in each place. */
  hidden: Uint8Array<ArrayBuffer> | null = null;
  /** Whether only what was found is shown. */
  isolated = false;

  constructor(scene: Scene) {
    ({ level: this.level, threshold: this.threshold, softness: this.softness } = scene.query);
    // The scores of a shared page are compared already.
    this.negatives = scene.live ? [...scene.query.negatives] : [];
  }

  /** Adds a text with a color that no other has, or the least used one. */
  add(text: string, key = text): Chip {
    const uses = (color: (typeof COLORS)[number]): number => this.chips.filter((chip) => chip.color === color).length;
    const color = COLORS.reduce((best, other) => (uses(other) < uses(best) ? other : best));
    const chip = { key, text, color, on: true, waiting: true };
    this.chips.push(chip);
    return chip;
  }

  find(key: string): Chip | undefined {
    return this.chips.find((chip) => chip.key === key);
  }

  remove(chip: Chip): void {
    this.chips = this.chips.filter((other) => other !== chip);
  }

  /** The texts that are switched on and whose scores are there. */
  get shown(): Chip[] {
    return this.chips.filter((chip) => chip.on && !chip.waiting);
  }

  question(): Question {
    const { negatives, level, threshold, softness, heat } = this;
    return { texts: this.shown.map(({ key, color }) => ({ key, color })), negatives, level, threshold, softness, heat };
  }
}

/** Splits a line into texts at semicolons. */
export function splitTexts(line: string): string[] {
  const texts = line.split(";").map((text) => text.trim());
  return [...new Set(texts.filter((text) => text !== ""))];
}
