// Asking texts, and painting the splats whenever something about the texts changes.

import type { Question, TextFacts } from "./answering";
import { OutdatedError } from "./client";
import { FoundError, messageOf } from "./errors";
import { Look } from "./renderer";
import type { Stage } from "./stage";
import { splitTexts, type Chip, type State } from "./state";
import type { AnswersHelper, TextSource } from "./texts";

export class Asking {
  /** Called when chips or facts changed. */
  onChange: () => void = () => {};
  /** Shows a sentence. */
  show: (text: string, failed: boolean) => void = () => {};
  facts: TextFacts[] = [];
  /** The texts to compare with; `state` has them when their scores are there. */
  compared: string[];
  /** Called when the scores of texts can be taken. */
  open: () => void = () => {};
  private readonly opened = new Promise<void>((resolve) => (this.open = resolve));
  private painting = false;
  private paintWanted = false;
  private failures = 0;
  /** How many failures had been said when the newest wish came. */
  private failuresBefore = 0;
  /** When the last answer was painted, by `performance.now()`; for measurements. */
  paintedAt = 0;

  constructor(
    readonly state: State,
    readonly stage: Stage,
    readonly answers: AnswersHelper,
    readonly texts: TextSource,
  ) {
    this.compared = state.negatives;
  }

  /** Says something. A failure stays until the next wish, also if an earlier one is answered after it. */
  say(text: string, failed = false): void {
    this.failures += Number(failed);
    this.show(text, failed);
  }

  /** Asks the texts of a line. */
  async ask(line: string): Promise<void> {
    const texts = splitTexts(line);
    if (texts.length === 0) {
      this.say("Write what you want to find, for example: a chair", true);
      return;
    }
    const compared = new Set(this.compared.map((text) => text.toLowerCase()));
    const clash = texts.find((text) => compared.has(text.toLowerCase()));
    if (clash !== undefined) {
      this.say(`"${clash}" is among the texts of "Compared with" under Settings. Take it out there first.`, true);
      return;
    }
    if (this.state.isolated) {
      // A new text is looked for in the whole scene.
      this.hide(null);
    }
    for (const text of texts) {
      const chip = this.state.find(text);
      if (chip !== undefined) {
        chip.on = true;
      } else {
        this.state.add(text);
      }
    }
    this.say(`Looking for ${texts.join(", ")} ...`);
    await this.fetchAndPaint();
  }

  /** Compares with other texts. */
  async compareWith(texts: string[]): Promise<void> {
    this.compared = texts;
    if (this.state.chips.length > 0) {
      await this.fetchAndPaint();
    }
  }

  /** Gets what is missing of the chips and the texts to compare with, and paints. */
  private async fetchAndPaint(): Promise<void> {
    this.onChange();
    const { compared, failures } = this;
    const waiting = this.state.chips.filter((chip) => chip.waiting);
    try {
      await this.opened;
      await this.texts.fetch([...waiting.map((chip) => chip.key), ...compared]);
    } catch (error) {
      if (error instanceof OutdatedError) {
        return;
      }
      waiting.filter((chip) => !this.texts.known(chip.key)).forEach((chip) => this.state.remove(chip));
      if (compared === this.compared) {
        this.compared = this.state.negatives;
      }
      this.onChange();
      this.say(messageOf(error), true);
      return;
    }
    waiting.forEach((chip) => (chip.waiting = false));
    if (compared === this.compared && compared !== this.state.negatives) {
      const before = this.state.negatives;
      this.state.negatives = compared;
      before.filter((text) => this.state.find(text) === undefined).forEach((text) => this.forget(text));
    }
    this.onChange();
    await this.paint(failures);
  }

  /** Adds a chip whose scores are known already. */
  async addKnown(text: string, key: string): Promise<void> {
    this.state.add(text, key).waiting = false;
    this.onChange();
    await this.paint();
  }

  /**
   * Paints what is asked now; while it paints, only the newest wish is kept.
   *
   * `failures` had been said when the wish came. What is found is not said in the place of a later failure.
   */
  async paint(failures = this.failures): Promise<void> {
    this.failuresBefore = Math.max(this.failuresBefore, failures);
    this.paintWanted = true;
    if (this.painting) {
      return;
    }
    this.painting = true;
    try {
      while (this.paintWanted) {
        this.paintWanted = false;
        await this.paintOnce(this.state.question());
      }
    } catch (error) {
      this.say(messageOf(error), true);
    } finally {
      this.painting = false;
    }
  }

  private async paintOnce(question: Question): Promise<void> {
    if (question.texts.length === 0) {
      this.facts = [];
      this.stage.setLook(Look.Colors);
      this.sayFound(this.state.chips.length > 0 ? "All texts are switched off." : "");
    } else {
      const { paint, facts } = await this.answers.ask({ kind: "paint", question });
      this.facts = facts;
      this.stage.paint(paint, question.heat ? Look.Heat : Look.Answers);
      this.sayFound(this.sentence(facts));
    }
    this.paintedAt = performance.now();
    this.onChange();
  }

  private sayFound(text: string): void {
    if (this.failuresBefore === this.failures) {
      this.say(text);
    }
  }

  private sentence(facts: TextFacts[]): string {
    const parts = facts.map(({ key, score, count, level }) => {
      const text = this.state.find(key)?.text ?? key;
      const where = this.state.level === "auto" ? `, ${level}` : "";
      return count > 0
        ? `${text}: ${count.toLocaleString("en")} splats, best ${score.toFixed(2)}${where}`
        : `${text}: nothing above ${this.state.threshold.toFixed(2)}, best ${score.toFixed(2)}${where}`;
    });
    return parts.join("; ");
  }

  /** The question of the texts that are shown. Raises FoundError if there is none. */
  requireQuestion(): Question {
    const question = this.state.question();
    if (question.texts.length === 0) {
      throw new FoundError("Ask for something first.");
    }
    return question;
  }

  /** Marks the splats that answer. Raises FoundError if there are none. */
  async select(): Promise<Uint8Array<ArrayBuffer>> {
    const keep = await this.answers.ask({ kind: "select", question: this.requireQuestion() });
    if (!keep.includes(1)) {
      throw new FoundError("Nothing is above the threshold. Lower it under Settings.");
    }
    return keep;
  }

  /** Hides splats, or none; `isolated` says that only what was found is left. */
  hide(hidden: Uint8Array<ArrayBuffer> | null, isolated = false): void {
    this.state.hidden = hidden;
    this.state.isolated = isolated;
    this.stage.hide(hidden);
  }

  async toggle(chip: Chip): Promise<void> {
    chip.on = !chip.on;
    this.onChange();
    await this.paint();
  }

  async remove(chip: Chip): Promise<void> {
    this.state.remove(chip);
    this.forget(chip.key);
    this.onChange();
    await this.paint();
  }

  /** Lets go of the scores of a text that no chip has, unless others are compared with it. */
  private forget(key: string): void {
    if (![...this.state.negatives, ...this.compared].includes(key)) {
      this.texts.forget(key);
    }
  }
}
