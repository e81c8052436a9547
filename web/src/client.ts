// Asks the server of a live page.

import { FoundError } from "./errors";
import { requestHeaders } from "./files";
import type { Vector } from "./scene";

export interface Names {
  names: { text: string; score: number }[];
  point: Vector | null;
}

/** Raised when a newer request made an answer worthless. */
export class OutdatedError extends Error {}

export const STOPPED =
  "The server does not answer any more. What was asked before still works; start gen-langsplat view again to ask more.";

export class Client {
  private readonly page = Array.from(crypto.getRandomValues(new Uint8Array(8)), (byte) => byte.toString(16)).join("");
  private number = 0;
  private readonly running = new Map<string, AbortController>();

  /** Scores of texts, as a score file. */
  async texts(texts: string[], prompts: boolean): Promise<Uint8Array<ArrayBuffer>> {
    return bytesOf(await this.ask("api/texts", { texts, prompts }));
  }

  /** Names of what is in a direction. */
  async here(origin: Vector, direction: Vector, level: string): Promise<Names> {
    return (await this.ask("api/here", { origin, direction, level })).json();
  }

  /** Scores of what looks like the thing in a direction. */
  async like(origin: Vector, direction: Vector, level: string): Promise<Uint8Array<ArrayBuffer>> {
    return bytesOf(await this.ask("api/like", { origin, direction, level }));
  }

  /** A file of the splats whose bits are set. */
  async export(format: string, bits: Uint8Array<ArrayBuffer>): Promise<Blob> {
    const response = await this.post(`api/export?format=${format}`, bits, "application/octet-stream");
    return response.blob();
  }

  /** Asks; an earlier request of the same kind is given up. */
  private async ask(address: string, body: object): Promise<Response> {
    this.running.get(address)?.abort();
    const controller = new AbortController();
    this.running.set(address, controller);
    const text = JSON.stringify({ page: this.page, request: ++this.number, ...body });
    try {
      return await this.post(address, text, "application/json", controller.signal);
    } finally {
      if (this.running.get(address) === controller) {
        this.running.delete(address);
      }
    }
  }

  private async post(
    address: string,
    body: string | Uint8Array<ArrayBuffer>,
    type: string,
    signal: AbortSignal | null = null,
  ): Promise<Response> {
    let response: Response;
    try {
      response = await fetch(address, {
        method: "POST",
        body,
        headers: { "Content-Type": type, ...requestHeaders() },
        signal,
      });
    } catch (error) {
      if (signal?.aborted) {
        throw new OutdatedError();
      }
      console.info(error);
      throw new FoundError(STOPPED);
    }
    if (response.status === 409) {
      throw new OutdatedError();
    }
    if (!response.ok) {
      throw new FoundError(await sentenceOf(response));
    }
    return response;
  }
}

async function bytesOf(response: Response): Promise<Uint8Array<ArrayBuffer>> {
  return new Uint8Array(await response.arrayBuffer());
}

async function sentenceOf(response: Response): Promise<string> {
  const text = await response.text();
  try {
    const { error } = JSON.parse(text) as { error?: unknown };
    return typeof error === "string" ? error : `The server answers ${response.status}.`;
  } catch {
    return `The server answers ${response.status}: ${text.slice(0, 200)}`;
  }
}
