// Scores texts and paints splats beside the page, so that drawing never waits.

import { Answering, type Question, type TextFacts } from "./answering";
import { messageOf } from "./errors";
import { readScores } from "./scores";
import type { Peak, SelectionSettings } from "./selection";

export type AnswersRequest =
  | {
      kind: "scene";
      means: Float32Array<ArrayBuffer>;
      opacities: Uint8Array<ArrayBuffer>;
      settings: SelectionSettings;
      temperature: number;
      levels: string[];
    }
  | { kind: "learn"; file: Uint8Array<ArrayBuffer>; keys?: string[] }
  | { kind: "forget"; key: string }
  | { kind: "paint"; question: Question }
  | { kind: "select"; question: Question }
  | { kind: "peaks"; question: Question }
  | { kind: "names"; keys: string[]; question: Question; splats: Uint32Array<ArrayBuffer>; weights: Float32Array<ArrayBuffer> };

export interface AnswersResults {
  scene: null;
  learn: string[];
  forget: null;
  paint: { paint: Uint8Array<ArrayBuffer>; facts: TextFacts[] };
  select: Uint8Array<ArrayBuffer>;
  peaks: Peak[];
  names: { key: string; score: number }[];
}

let answering: Answering | null = null;
let count = 0;

function answer(request: AnswersRequest): AnswersResults[keyof AnswersResults] {
  if (request.kind === "scene") {
    count = request.opacities.length;
    const opacities = Float32Array.from(request.opacities, (byte) => byte / 255);
    answering = new Answering(request.means, opacities, request.settings, request.temperature, request.levels);
    return null;
  }
  if (answering === null) {
    throw new Error("The scene is not there yet.");
  }
  switch (request.kind) {
    case "learn": {
      const texts = readScores(request.file, count);
      return texts.map((scores, index) => {
        const key = request.keys?.[index] ?? scores.text;
        answering?.learn(key, scores);
        return key;
      });
    }
    case "forget":
      answering.forget(request.key);
      return null;
    case "paint":
      return answering.paint(request.question);
    case "select":
      return answering.select(request.question);
    case "peaks":
      return answering.peaks(request.question);
    case "names":
      return answering.names(request.keys, request.question, request.splats, request.weights);
  }
}

self.onmessage = ({ data: { number, request } }: MessageEvent<{ number: number; request: AnswersRequest }>) => {
  const reply: { number: number; result?: AnswersResults[keyof AnswersResults]; error?: string } = { number };
  try {
    reply.result = answer(request);
  } catch (error) {
    reply.error = messageOf(error);
  }
  const result = reply.result;
  const transfer = result !== null && typeof result === "object" && "paint" in result ? [result.paint.buffer] : [];
  (self as unknown as Worker).postMessage(reply, transfer);
};
