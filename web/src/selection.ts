// Selects splats by relevancy, as genlangsplat_ns/language/selection.py and LanguageField.peaks do.

import { groupLabels } from "./grouping";
import { nearestDistances } from "./neighbors";

/** The radius of the clean-up, in median distances to the nearest neighbor. */
const AUTOMATIC_RADIUS = 4;
const MAX_PEAKS = 20;

export interface SelectionSettings {
  clean_up: boolean;
  min_opacity: number;
  smallest_group: number;
  radius: number | null;
}

export interface Peak {
  center: [number, number, number];
  /** Largest extent of the group. */
  size: number;
  score: number;
}

/** Marks the splats above a threshold with 1, without groups much smaller than the largest. */
export function selectGaussians(
  relevancy: Float32Array,
  means: Float32Array,
  opacities: Float32Array,
  threshold: number,
  settings: SelectionSettings,
): Uint8Array<ArrayBuffer> {
  const keep = new Uint8Array(relevancy.length);
  const [bound, opaque] = [Math.fround(threshold), Math.fround(settings.min_opacity)];
  for (let index = 0; index < keep.length; index++) {
    const finite = Number.isFinite(means[3 * index] + means[3 * index + 1] + means[3 * index + 2]);
    keep[index] = relevancy[index] > bound && opacities[index] >= opaque && finite ? 1 : 0;
  }
  return settings.clean_up ? cleaned(keep, means, settings.radius, settings.smallest_group) : keep;
}

/** Removes groups smaller than a share of the largest. */
export function cleaned(
  keep: Uint8Array<ArrayBuffer>,
  means: Float32Array,
  radius: number | null = null,
  smallestGroup = 0.1,
): Uint8Array<ArrayBuffer> {
  const chosen = indicesOf(keep);
  if (chosen.length < 2) {
    return keep;
  }
  const { labels, sizes } = labelsOf(chosen, means, radius);
  const bound = smallestGroup * sizes.reduce((a, b) => Math.max(a, b));
  const result = new Uint8Array(keep.length);
  chosen.forEach((index, place) => {
    result[index] = sizes[labels[place]] >= bound ? 1 : 0;
  });
  return result;
}

/** The groups of a selection as lists of indices, the largest first. */
export function groups(keep: Uint8Array, means: Float32Array): number[][] {
  const chosen = indicesOf(keep);
  if (chosen.length < 2) {
    return chosen.length > 0 ? [chosen] : [];
  }
  const { labels, sizes } = labelsOf(chosen, means, null);
  const found: number[][] = sizes.map(() => []);
  chosen.forEach((index, place) => found[labels[place]].push(index));
  return found.sort((a, b) => b.length - a.length);
}

/** The places of a selection, by descending relevancy. */
export function peaks(keep: Uint8Array<ArrayBuffer>, means: Float32Array, relevancy: Float32Array): Peak[] {
  return groups(cleaned(keep, means), means)
    .slice(0, MAX_PEAKS)
    .map((members) => peakOf(members, means, relevancy))
    .sort((a, b) => b.score - a.score);
}

function peakOf(members: number[], means: Float32Array, relevancy: Float32Array): Peak {
  const center: [number, number, number] = [0, 0, 0];
  let size = 0;
  for (let axis = 0; axis < 3; axis++) {
    let low = Infinity;
    let high = -Infinity;
    for (const index of members) {
      const value = means[3 * index + axis];
      center[axis] += value / members.length;
      if (value < low) low = value;
      if (value > high) high = value;
    }
    size = Math.max(size, high - low);
  }
  const score = members.reduce((highest, index) => Math.max(highest, relevancy[index]), 0);
  return { center, size, score };
}

function labelsOf(
  chosen: number[],
  means: Float32Array,
  radius: number | null,
): { labels: Int32Array; sizes: number[] } {
  const points = new Float64Array(3 * chosen.length);
  chosen.forEach((index, place) => points.set(means.subarray(3 * index, 3 * index + 3), 3 * place));
  return groupLabels(points, radius ?? AUTOMATIC_RADIUS * median(nearestDistances(points)));
}

function median(values: Float64Array): number {
  const sorted = values.slice().sort();
  const middle = sorted.length >> 1;
  return sorted.length % 2 === 1 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2;
}

export function indicesOf(keep: Uint8Array): number[] {
  const indices: number[] = [];
  for (let index = 0; index < keep.length; index++) {
    if (keep[index] === 1) indices.push(index);
  }
  return indices;
}
