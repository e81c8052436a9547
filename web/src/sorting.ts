// Orders the splats that a camera sees, the farthest first.

import { ROW } from "./packing";
import type { Splats } from "./spz";

/** A camera as the sort needs it. */
export interface SortCamera {
  /** World to camera, 3 rows of 4; the camera looks along -z. */
  view: Float32Array;
  /** Tangents of half the field of view, wider than the picture so that a turn shows no gap. */
  tangentX: number;
  tangentY: number;
}

const BINS = 65_536;

/** Sorts by depth in a fixed number of bins. It keeps its memory, so it serves one scene. */
export class DepthSort {
  private readonly radii: Float32Array;
  private readonly depths: Float32Array;
  private readonly seen: Uint32Array;
  private readonly starts = new Uint32Array(BINS + 1);
  /** 1 for splats that are not drawn. */
  private hidden: Uint8Array | null = null;

  constructor(private readonly splats: Splats) {
    this.radii = radiiOf(splats);
    this.depths = new Float32Array(splats.count);
    this.seen = new Uint32Array(splats.count);
  }

  hide(hidden: Uint8Array | null): void {
    this.hidden = hidden;
  }

  /** Returns the indices of the splats in front of the camera, filled up to whole rows of a texture. */
  order({ view, tangentX, tangentY }: SortCamera): { order: Uint32Array<ArrayBuffer>; drawn: number } {
    const { means, count } = this.splats;
    const { radii, depths, seen, starts, hidden } = this;
    const [x0, x1, x2, x3, y0, y1, y2, y3, z0, z1, z2, z3] = view;
    const slantX = Math.hypot(1, tangentX);
    const slantY = Math.hypot(1, tangentY);
    let number = 0;
    let nearest = Infinity;
    let farthest = 0;
    for (let index = 0; index < count; index++) {
      if (hidden !== null && hidden[index] === 1) {
        continue;
      }
      const x = means[3 * index];
      const y = means[3 * index + 1];
      const z = means[3 * index + 2];
      const depth = -(z0 * x + z1 * y + z2 * z + z3);
      if (!(depth > NEAR)) {
        continue;
      }
      const radius = radii[index];
      if (Math.abs(x0 * x + x1 * y + x2 * z + x3) > tangentX * depth + radius * slantX) {
        continue;
      }
      if (Math.abs(y0 * x + y1 * y + y2 * z + y3) > tangentY * depth + radius * slantY) {
        continue;
      }
      depths[number] = depth;
      seen[number++] = index;
      if (depth < nearest) nearest = depth;
      if (depth > farthest) farthest = depth;
    }
    // Bins of the logarithm are as fine near the camera as it needs.
    const low = Math.log(nearest);
    const factor = farthest > nearest ? (BINS - 1) / (Math.log(farthest) - low) : 0;
    starts.fill(0);
    for (let place = 0; place < number; place++) {
      const bin = BINS - 1 - ((Math.log(depths[place]) - low) * factor | 0);
      depths[place] = bin;
      starts[bin + 1]++;
    }
    for (let bin = 0; bin < BINS; bin++) {
      starts[bin + 1] += starts[bin];
    }
    const order = new Uint32Array(ROW * Math.ceil(number / ROW));
    for (let place = 0; place < number; place++) {
      order[starts[depths[place]]++] = seen[place];
    }
    return { order, drawn: number };
  }
}

/** Splats nearer to the camera than this are not drawn. */
export const NEAR = 0.01;

/** Three standard deviations, at most. */
function radiiOf({ covariances, count }: Splats): Float32Array {
  const radii = new Float32Array(count);
  for (let index = 0; index < count; index++) {
    const place = 6 * index;
    radii[index] = 3 * Math.sqrt(covariances[place] + covariances[place + 3] + covariances[place + 5]);
  }
  return radii;
}
