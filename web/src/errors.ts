/** An error whose message is for the reader of the page. */
export class FoundError extends Error {}

/** The sentence of any error. */
export function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
