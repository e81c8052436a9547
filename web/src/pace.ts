// How fine the picture is: as fine as the screen when the camera rests, as fine as is fast enough while it moves.

/** Milliseconds that a picture may take while the camera moves. */
const BUDGET = 70;
/** A picture as fine as the screen that takes longer is slow: new colors are shown coarsely first. */
const SLOW = 220;
const COARSEST = 0.22;

export class Pace {
  /** Share of the full width and height while the camera moves. */
  scale = 1;
  /** Splats to draw at once; a slice must not hold up the browser. */
  slice = 60_000;
  private fine = 0;
  private coarseSeen = false;

  /** Whether a picture as fine as the screen takes long. */
  get isSlow(): boolean {
    return this.fine > SLOW;
  }

  /** Learns from a picture as fine as the screen. */
  learnFine(milliseconds: number): void {
    this.fine = milliseconds;
    if (!this.coarseSeen) {
      this.scale = limited(Math.sqrt(BUDGET / milliseconds));
    }
  }

  /** Learns from a coarse picture. */
  learnCoarse(milliseconds: number): void {
    this.coarseSeen = true;
    if (milliseconds > BUDGET || milliseconds < 0.5 * BUDGET) {
      const factor = Math.sqrt(BUDGET / Math.max(milliseconds, 1));
      this.scale = limited(this.scale * Math.min(1.15, Math.max(0.7, factor)));
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
