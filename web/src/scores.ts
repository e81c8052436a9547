// Reads score files: a header in JSON, then a byte a text, plane and splat.

import { FoundError } from "./errors";

/** The scores of one text. */
export interface TextScores {
  text: string;
  /** Cosines have one plane a level; relevancy has one plane, the levels joined already. */
  kind: "cosines" | "relevancy";
  planes: { low: number; high: number; bytes: Uint8Array<ArrayBuffer> }[];
}

/** Reads a score file of a scene with a number of splats. */
export function readScores(file: Uint8Array<ArrayBuffer>, count: number): TextScores[] {
  const damaged = new FoundError("The scores of a text are damaged. Ask again.");
  if (file.length < 4) {
    throw damaged;
  }
  const headerLength = new DataView(file.buffer, file.byteOffset).getUint32(0, true);
  if (headerLength > file.length - 4) {
    throw damaged;
  }
  const header = JSON.parse(new TextDecoder().decode(file.subarray(4, 4 + headerLength)));
  if (header.count !== count) {
    throw new FoundError(
      `The scores are for ${header.count} splats, but the scene has ${count}. Was the run trained again? Reload the page.`,
    );
  }
  let place = 4 + headerLength;
  return header.texts.map(({ text, planes }: { text: string; planes: { low: number; high: number }[] }) => ({
    text,
    kind: header.kind,
    planes: planes.map(({ low, high }) => {
      const bytes = file.slice(place, place + count);
      if (bytes.length < count) {
        throw damaged;
      }
      place += count;
      return { low, high, bytes };
    }),
  }));
}

/** The numbers of a plane; where nothing was seen, `unseen`. */
export function numbersOf(plane: TextScores["planes"][number], unseen: number): Float32Array<ArrayBuffer> {
  const step = (plane.high - plane.low) / 254;
  const table = Float32Array.from({ length: 256 }, (_, byte) => (byte === 0 ? unseen : plane.low + (byte - 1) * step));
  const numbers = new Float32Array(plane.bytes.length);
  for (let index = 0; index < numbers.length; index++) {
    numbers[index] = table[plane.bytes[index]];
  }
  return numbers;
}
