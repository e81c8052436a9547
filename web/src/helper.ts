// Asks a worker that answers each request once.

import { FoundError } from "./errors";

/** Requests by `kind`, and what each is answered with. */
export class Helper<Request extends { kind: string }, Results extends Record<Request["kind"], unknown>> {
  /** Called if the worker itself breaks. */
  onBroken: (message: string) => void = () => {};
  private readonly worker: Worker;
  private readonly waiting = new Map<number, { resolve: (value: never) => void; reject: (error: Error) => void }>();
  private last = 0;

  /** Starts the worker from its script, which lies inside the page's script. */
  constructor(source: string) {
    const address = URL.createObjectURL(new Blob([source], { type: "text/javascript" }));
    this.worker = new Worker(address);
    this.worker.onmessage = ({ data }: MessageEvent<{ number: number; result?: unknown; error?: string }>) => {
      const waiting = this.waiting.get(data.number);
      this.waiting.delete(data.number);
      if (data.error !== undefined) {
        waiting?.reject(new FoundError(data.error));
      } else {
        waiting?.resolve(data.result as never);
      }
    };
    this.worker.onerror = (event) => this.onBroken(event.message || "A part of the page did not start. Reload the page.");
  }

  ask<Kind extends Request["kind"]>(
    request: Extract<Request, { kind: Kind }>,
    transfer: Transferable[] = [],
  ): Promise<Results[Kind]> {
    const number = ++this.last;
    return new Promise((resolve, reject) => {
      this.waiting.set(number, { resolve, reject });
      this.worker.postMessage({ number, request }, transfer);
    });
  }
}
