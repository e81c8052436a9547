// Relevancy of a text, as genlangsplat_ns/language/relevancy.py and answers.py compute it.

/** Names of the three levels; a level rule is one of them, `mean` or `auto`. */
export const LEVELS = ["subpart", "part", "whole"];

/** A score of exactly 0 means that no region was ever seen. */
export const MIN_RELEVANCY = 1e-30;

/** The rule `auto` ignores splats with a lower opacity. */
export const MIN_PEAK_OPACITY = 0.1;

/** The pairwise softmax against the nearest negative; 0 where a cosine is not a number: nothing was seen. */
export function relevancyOfCosines(
  positives: Float32Array,
  negatives: Float32Array[],
  temperature: number,
): Float32Array<ArrayBuffer> {
  const relevancy = new Float32Array(positives.length);
  for (let index = 0; index < positives.length; index++) {
    const positive = positives[index];
    if (Number.isNaN(positive)) {
      continue;
    }
    let nearest = -Infinity;
    for (const negative of negatives) {
      if (negative[index] > nearest) nearest = negative[index];
    }
    relevancy[index] = Math.max(MIN_RELEVANCY, 1 / (1 + Math.exp(-temperature * (positive - nearest))));
  }
  return relevancy;
}

export interface JoinedLevels {
  relevancy: Float32Array<ArrayBuffer>;
  /** The level or rule that the scores came from. */
  level: string;
}

/** Joins the relevancy of the levels by a rule, for one text. */
export function joinLevels(
  maps: Float32Array<ArrayBuffer>[],
  opacities: Float32Array,
  rule: string,
  names = LEVELS,
): JoinedLevels {
  if (rule === "mean") {
    return { relevancy: meanOfSeen(maps), level: rule };
  }
  const index = rule === "auto" ? highestPeak(maps, opacities) : names.indexOf(rule);
  const chosen = maps[index];
  if (chosen === undefined) {
    throw new Error(`There is no level "${rule}"; choose mean, auto, ${names.join(", ")}.`);
  }
  return { relevancy: chosen, level: names[index] };
}

function meanOfSeen(maps: Float32Array[]): Float32Array<ArrayBuffer> {
  const joined = new Float32Array(maps[0].length);
  for (let index = 0; index < joined.length; index++) {
    let sum = 0;
    let seen = 0;
    for (const map of maps) {
      sum += map[index];
      if (map[index] > 0) seen++;
    }
    joined[index] = seen > 0 ? sum / seen : 0;
  }
  return joined;
}

function highestPeak(maps: Float32Array[], opacities: Float32Array): number {
  const bound = Math.fround(MIN_PEAK_OPACITY);
  const anyOpaque = opacities.some((opacity) => opacity >= bound);
  let best = 0;
  let highest = -Infinity;
  maps.forEach((map, level) => {
    for (let index = 0; index < map.length; index++) {
      if (map[index] > highest && (!anyOpaque || opacities[index] >= bound)) {
        highest = map[index];
        best = level;
      }
    }
  });
  return best;
}

/** How strongly a splat is shown as found: a ramp of a width around the threshold. */
export function softMask(relevancy: number, threshold: number, softness: number): number {
  if (relevancy <= 0) {
    return 0;
  }
  if (softness <= 0) {
    return relevancy > threshold ? 1 : 0;
  }
  return Math.min(1, Math.max(0, (relevancy - threshold) / softness + 0.5));
}
