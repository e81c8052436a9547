// How fine the picture is: as fine as the screen when the camera rests, as fine as is fast enough while it moves: first
// with fewer pixels, then with fewer splats.

/** Milliseconds that a picture may take while the camera moves. */
const BUDGET = 70;
/** A picture as fine as the screen that takes longer is slow: new colors are shown coarsely first. */
const SLOW = 220;
const COARSEST = 0.22;
/** Fewer splats than these are always drawn. */
const FEWEST = 16_000;
/** Splats of the first coarse picture where a fine one is slow. */
const FIRST = 50_000;

export class Pace {
  /** Share of the full width and height while the camera moves. */
  scale = 1;
  /** Splats that a picture may have while the camera moves. */
  most = Infinity;
  /** Splats to draw at once; a slice must not hold up the browser. */
  slice = 60_000;
  private fine = 0;
  private coarseSeen = false;

  /** A coarse picture of so many splats has only one of how many: a power of two. */
  thinning(splats: number): number {
    return 2 ** Math.max(0, Math.ceil(Math.log2(splats / this.most)));
  }

  /** Whether a picture as fine as the screen takes long. */
  get isSlow(): boolean {
    return this.fine > SLOW;
  }

  /** Learns from a picture as fine as the screen. */
  learnFine(milliseconds: number): void {
    this.fine = milliseconds;
    if (!this.coarseSeen) {
      this.scale = limited(Math.sqrt(BUDGET / milliseconds));
      this.most = this.scale === COARSEST ? FIRST : Infinity;
    }
  }

  /** Learns from a coarse picture of some of the splats, or of all of them. */
  learnCoarse(milliseconds: number, splats: number, all: boolean): void {
    this.coarseSeen = true;
    const factor = Math.min(1.3, Math.max(0.5, BUDGET / Math.max(milliseconds, 1)));
    if (milliseconds > BUDGET && this.scale === COARSEST) {
      this.most = Math.max(FEWEST, factor * splats);
    } else if (milliseconds < 0.5 * BUDGET && !all) {
      this.most = factor * Math.max(this.most, splats);
    } else if (milliseconds > BUDGET || milliseconds < 0.5 * BUDGET) {
      this.scale = limited(this.scale * Math.sqrt(factor));
    }
  }

  /** Learns from a slice of a fine picture, so that each takes 20 to 40 milliseconds. */
  learnSlice(splats: number, milliseconds: number): void {
    if (milliseconds > 40) {
      this.slice = Math.max(2000, Math.round(0.6 * splats));
    } else if (milliseconds < 20 && splats >= this.slice) {
      this.slice = Math.min(4_000_000, Math.round(1.6 * this.slice));
    }
  }
}

const limited = (scale: number): number => Math.min(1, Math.max(COARSEST, scale));
