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
  say: (text: string, failed?: boolean) => void = () => {};
  facts: TextFacts[] = [];
  private painting = false;
  private paintWanted = false;
  /** When the last answer was painted, by `performance.now()`; for measurements. */
  paintedAt = 0;

  constructor(
    readonly state: State,
    readonly stage: Stage,
    readonly answers: AnswersHelper,
    readonly texts: TextSource,
  ) {}

  /** Asks the texts of a line. */
  async ask(line: string): Promise<void> {
    const texts = splitTexts(line);
    if (texts.length === 0) {
      this.say("Write what you want to find, for example: a chair", true);
      return;
    }
    const negatives = new Set(this.state.negatives.map((text) => text.toLowerCase()));
    const clash = texts.find((text) => negatives.has(text.toLowerCase()));
    if (clash !== undefined) {
      this.say(`"${clash}" is among the texts of "Compared with" under Settings. Take it out there first.`, true);
      return;
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

  /** Gets what is missing of the chips and negatives, and paints. */
  async fetchAndPaint(): Promise<void> {
    this.onChange();
    const waiting = this.state.chips.filter((chip) => chip.waiting);
    const compared = this.state.chips.length > 0 ? this.comparedTexts() : [];
    try {
      await this.texts.fetch([...waiting.map((chip) => chip.key), ...compared]);
    } catch (error) {
      if (error instanceof OutdatedError) {
        return;
      }
      waiting.filter((chip) => !this.texts.known(chip.key)).forEach((chip) => this.state.remove(chip));
      this.onChange();
      this.say(messageOf(error), true);
      return;
    }
    waiting.forEach((chip) => (chip.waiting = false));
    this.onChange();
    await this.paint();
  }

  /** The texts that cosines are compared with; scores that are joined already need none. */
  comparedTexts: () => string[] = () => this.state.negatives;

  /** Adds a chip whose scores are known already. */
  async addKnown(text: string, key: string): Promise<void> {
    this.state.add(text, key).waiting = false;
    this.onChange();
    await this.paint();
  }

  /** Paints what is asked now; while it paints, only the newest wish is kept. */
  async paint(): Promise<void> {
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
      this.say(this.state.chips.length > 0 ? "All texts are switched off." : "");
    } else {
      const { paint, facts } = await this.answers.ask({ kind: "paint", question });
      this.facts = facts;
      this.stage.paint(paint, question.heat ? Look.Heat : Look.Answers);
      this.say(this.sentence(facts));
    }
    this.paintedAt = performance.now();
    this.onChange();
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

  async toggle(chip: Chip): Promise<void> {
    chip.on = !chip.on;
    this.onChange();
    await this.paint();
  }

  async remove(chip: Chip): Promise<void> {
    this.state.remove(chip);
    if (!this.state.negatives.includes(chip.key)) {
      this.texts.forget(chip.key);
    }
    this.onChange();
    await this.paint();
  }
}
