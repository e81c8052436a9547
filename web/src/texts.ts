// Gets the scores of texts: from the server, or from the files of a shared page.

import type { AnswersRequest, AnswersResults } from "./answers.worker";
import type { Client } from "./client";
import { OutdatedError } from "./client";
import { FoundError } from "./errors";
import { readUnpacked } from "./files";
import type { Helper } from "./helper";
import type { Scene } from "./scene";

export type AnswersHelper = Helper<AnswersRequest, AnswersResults>;

export interface TextSource {
  /** Makes the scores of texts known to the answers' worker. Raises OutdatedError if a newer call takes over. */
  fetch(texts: string[]): Promise<void>;
  known(text: string): boolean;
  /** Lets go of a text that nobody shows any more. */
  forget(text: string): void;
}

/** Asks the server; every request holds all texts that are still missing. */
export class LiveTexts implements TextSource {
  private readonly learned = new Set<string>();
  private readonly missing = new Set<string>();

  constructor(
    private readonly client: Client,
    private readonly answers: AnswersHelper,
    private readonly prompts: boolean,
  ) {}

  known(text: string): boolean {
    return this.learned.has(text);
  }

  async fetch(texts: string[]): Promise<void> {
    texts.filter((text) => !this.learned.has(text)).forEach((text) => this.missing.add(text));
    if (this.missing.size === 0) {
      return;
    }
    const wanted = [...this.missing];
    try {
      const file = await this.client.texts(wanted, this.prompts);
      await this.answers.ask({ kind: "learn", file, keys: wanted }, [file.buffer]);
    } catch (error) {
      if (!(error instanceof OutdatedError)) {
        wanted.forEach((text) => this.missing.delete(text));
      }
      throw error;
    }
    for (const text of wanted) {
      this.missing.delete(text);
      this.learned.add(text);
    }
  }

  forget(text: string): void {
    this.missing.delete(text);
    if (this.learned.delete(text)) {
      void this.answers.ask({ kind: "forget", key: text });
    }
  }
}

/** Reads the scores that lie beside a shared page. */
export class SharedTexts implements TextSource {
  private readonly learned = new Set<string>();
  private readonly files: Map<string, string>;

  constructor(
    scene: Scene,
    private readonly answers: AnswersHelper,
  ) {
    this.files = new Map(scene.answers.map(({ text, file }) => [text, file]));
  }

  known(text: string): boolean {
    return this.learned.has(text);
  }

  async fetch(texts: string[]): Promise<void> {
    for (const text of texts) {
      if (this.learned.has(text)) {
        continue;
      }
      const name = this.files.get(text);
      if (name === undefined) {
        throw new FoundError(`This page has no answer to "${text}". Choose one of its texts.`);
      }
      const file = await readUnpacked(name);
      await this.answers.ask({ kind: "learn", file, keys: [text] }, [file.buffer]);
      this.learned.add(text);
    }
  }

  forget(): void {
    // The files are small and may be asked again.
  }
}
