// The answers to the texts of a scene: relevancy, the paint of the splats, selections.

import { joinLevels, relevancyOfCosines, softMask } from "./relevancy";
import { numbersOf, type TextScores } from "./scores";
import { peaks, selectGaussians, type Peak, type SelectionSettings } from "./selection";
import { ROW } from "./packing";
import { heatColor } from "./heat";

/** What is asked: the texts that are switched on, and how they are scored. */
export interface Question {
  texts: { key: string; color: [number, number, number] }[];
  negatives: string[];
  level: string;
  threshold: number;
  softness: number;
  heat: boolean;
}

/** What an answer says of one text. */
export interface TextFacts {
  key: string;
  /** The highest relevancy of a splat that is not faint. */
  score: number;
  level: string;
  /** Splats above the threshold, before the clean-up. */
  count: number;
}

interface Known {
  relevancy: Float32Array<ArrayBuffer>;
  level: string;
}

/** Relevancy that is kept for texts, settings and levels that were asked last. */
const KEPT = 24;

export class Answering {
  private readonly texts = new Map<string, TextScores>();
  private readonly known = new Map<string, Known>();

  constructor(
    private readonly means: Float32Array,
    private readonly opacities: Float32Array,
    private readonly settings: SelectionSettings,
    private readonly temperature: number,
    private readonly levels: string[],
  ) {}

  /** Takes the scores of a text. */
  learn(key: string, scores: TextScores): void {
    this.texts.set(key, scores);
    for (const id of this.known.keys()) {
      if ((JSON.parse(id) as string[])[0] === key) {
        this.known.delete(id);
      }
    }
  }

  forget(key: string): void {
    this.texts.delete(key);
  }

  /** Relevancy of every splat to a text. */
  relevancy(key: string, question: Pick<Question, "negatives" | "level">): Known {
    const scores = this.scoresOf(key);
    const joined = scores.kind === "relevancy";
    const id = JSON.stringify(joined ? [key] : [key, question.level, ...question.negatives]);
    let known = this.known.get(id);
    if (known === undefined) {
      known = joined ? { relevancy: numbersOf(scores.planes[0], 0), level: "mean" } : this.compute(scores, question);
    }
    // The last asked is the last to be dropped.
    this.known.delete(id);
    this.known.set(id, known);
    if (this.known.size > KEPT) {
      this.known.delete(this.known.keys().next().value as string);
    }
    return known;
  }

  private scoresOf(key: string): TextScores {
    const scores = this.texts.get(key);
    if (scores === undefined) {
      throw new Error(`The scores of "${key}" are not there yet.`);
    }
    return scores;
  }

  private compute(scores: TextScores, { negatives, level }: Pick<Question, "negatives" | "level">): Known {
    const others = negatives.map((negative) => this.scoresOf(negative));
    const maps = scores.planes.map((plane, index) =>
      relevancyOfCosines(
        numbersOf(plane, NaN),
        others.map((other) => numbersOf(other.planes[index], -1)),
        this.temperature,
      ),
    );
    return joinLevels(maps, this.opacities, level, this.levels);
  }

  /** Four bytes a splat in whole rows: color of the best text and how strongly it is found. */
  paint(question: Question): { paint: Uint8Array<ArrayBuffer>; facts: TextFacts[] } {
    const count = this.opacities.length;
    const paint = new Uint8Array(4 * ROW * Math.max(1, Math.ceil(count / ROW)));
    const words = new Uint32Array(paint.buffer);
    const best = new Float32Array(count);
    const { threshold, softness, heat } = question;
    const facts = question.texts.map(({ key, color }) => {
      const { relevancy, level } = this.relevancy(key, question);
      const packed = color[0] | (color[1] << 8) | (color[2] << 16);
      let score = 0;
      let above = 0;
      for (let index = 0; index < count; index++) {
        const value = relevancy[index];
        if (value > threshold) above++;
        if (value > score && this.opacities[index] >= this.settings.min_opacity) score = value;
        if (value > best[index]) {
          best[index] = value;
          const strength = softMask(value, threshold, softness);
          words[index] = heat ? heatColor(value) : (packed | (Math.round(255 * strength) << 24)) >>> 0;
        }
      }
      return { key, score, level, count: above };
    });
    return { paint, facts };
  }

  /** Marks the splats that answer any text. */
  select(question: Question): Uint8Array<ArrayBuffer> {
    const union = new Uint8Array(this.opacities.length);
    for (const { key } of question.texts) {
      const { relevancy } = this.relevancy(key, question);
      const keep = selectGaussians(relevancy, this.means, this.opacities, question.threshold, this.settings);
      for (let index = 0; index < union.length; index++) {
        union[index] |= keep[index];
      }
    }
    return union;
  }

  /** The places that answer any text. */
  peaks(question: Question): Peak[] {
    const best = new Float32Array(this.opacities.length);
    for (const { key } of question.texts) {
      const { relevancy } = this.relevancy(key, question);
      for (let index = 0; index < best.length; index++) {
        if (relevancy[index] > best[index]) best[index] = relevancy[index];
      }
    }
    return peaks(this.select(question), this.means, best);
  }

  /** The texts that fit some splats best; `weights` says how much each splat counts. */
  names(keys: string[], question: Question, splats: Uint32Array, weights: Float32Array): { key: string; score: number }[] {
    const total = weights.reduce((a, b) => a + b, 0) || 1;
    return keys
      .map((key) => {
        const { relevancy } = this.relevancy(key, question);
        return { key, score: splats.reduce((sum, splat, place) => sum + weights[place] * relevancy[splat], 0) / total };
      })
      .sort((a, b) => b.score - a.score);
  }
}
