// Flies the camera from one pose to another.

import { add, between, dot, lengthOf, poseLookingAt, scaled, unit, type Pose } from "./camera";
import type { Peak } from "./selection";
import type { Vector, View } from "./scene";
import type { Stage } from "./stage";

const DURATION = 700;

export class Flight {
  private number = 0;

  constructor(private readonly stage: Stage) {}

  /** Flies to a pose; a reader who wants no motion is there at once. */
  to(target: Pose): void {
    const start = this.stage.pose;
    const number = ++this.number;
    if (start === null || matchMedia("(prefers-reduced-motion: reduce)").matches) {
      this.stage.pose = target;
      return;
    }
    const began = performance.now();
    const step = (now: number): void => {
      if (number !== this.number) {
        return;
      }
      const share = Math.min(1, Math.max(0, now - began) / DURATION);
      this.stage.pose = share === 1 ? target : between(start, target, share * share * (3 - 2 * share));
      if (share < 1) {
        requestAnimationFrame(step);
      }
    };
    requestAnimationFrame(step);
  }

  /** Ends a flight where it is. */
  stop(): void {
    this.number++;
  }
}

/** A pose that shows a place, from the side of the photograph that shows it best. */
export function poseAtPeak(peak: Peak, views: View[], current: Pose, up: Vector): Pose {
  const distance = Math.max((1.1 * peak.size) / current.tangent, 0.05);
  let direction = unit(add(current.position, peak.center, -1));
  let best = -Infinity;
  for (const view of views) {
    const away = add(view.position, peak.center, -1);
    const back: Vector = [view.rotation[0][2], view.rotation[1][2], view.rotation[2][2]];
    const facing = dot(unit(away), back);
    // Photographs that look at it count, and of these the ones from about the wanted distance.
    const quality = facing - 0.15 * Math.abs(Math.log(lengthOf(away) / distance));
    if (quality > best && facing > 0.5) {
      best = quality;
      direction = unit(away);
    }
  }
  return poseLookingAt(add(peak.center, scaled(direction, distance)), peak.center, up, current.tangent);
}
