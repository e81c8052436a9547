// Finds the splats that a ray meets first.

import type { Splats } from "./spz";
import type { Vector } from "./scene";

/** A splat's share of the ray that is enough to count. */
const FAINTEST = 0.02;

export interface Picked {
  /** The point where half of the ray is stopped; null if it meets almost nothing. */
  point: Vector | null;
  splats: Uint32Array<ArrayBuffer>;
  /** How much each splat contributes to what is seen. */
  weights: Float32Array<ArrayBuffer>;
}

/** Composites the splats along a ray; each is as wide across the ray as toward its center. */
export function pickSplats(
  { means, covariances, colors, count }: Splats,
  hidden: Uint8Array | null,
  origin: Vector,
  direction: Vector,
): Picked {
  const met: { index: number; along: number; alpha: number }[] = [];
  for (let index = 0; index < count; index++) {
    const x = means[3 * index] - origin[0];
    const y = means[3 * index + 1] - origin[1];
    const z = means[3 * index + 2] - origin[2];
    const along = x * direction[0] + y * direction[1] + z * direction[2];
    if (along <= 0 || (hidden !== null && hidden[index] === 1)) {
      continue;
    }
    const squared = Math.max(0, x * x + y * y + z * z - along * along);
    const place = 6 * index;
    if (squared > 9 * (covariances[place] + covariances[place + 3] + covariances[place + 5])) {
      continue;
    }
    const length = Math.sqrt(squared) || 1;
    const ax = (x - along * direction[0]) / length;
    const ay = (y - along * direction[1]) / length;
    const az = (z - along * direction[2]) / length;
    const variance =
      covariances[place] * ax * ax +
      covariances[place + 3] * ay * ay +
      covariances[place + 5] * az * az +
      2 * (covariances[place + 1] * ax * ay + covariances[place + 2] * ax * az + covariances[place + 4] * ay * az);
    const alpha = (colors[4 * index + 3] / 255) * Math.exp((-0.5 * squared) / Math.max(variance, 1e-12));
    if (alpha > FAINTEST) {
      met.push({ index, along, alpha });
    }
  }
  met.sort((a, b) => a.along - b.along);
  let open = 1;
  let depth: number | null = null;
  const weights = met.map(({ alpha, along }) => {
    const weight = open * alpha;
    open -= weight;
    depth ??= open < 0.5 ? along : null;
    return weight;
  });
  return {
    point: depth === null ? null : (origin.map((value, axis) => value + (depth as number) * direction[axis]) as Vector),
    splats: Uint32Array.from(met, ({ index }) => index),
    weights: Float32Array.from(weights),
  };
}
