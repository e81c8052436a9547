// Moves the camera by mouse, touch and keyboard.

import { lookedAround, moved, orbited, tangentsOf, zoomed, type Pose } from "./camera";
import type { Vector } from "./scene";
import type { Stage } from "./stage";

/** A press that moves less than this many pixels is a click. */
const CLICK = 5;
const TURN = 0.006;
/** Turn per second of a key, in radians, and movement per second in parts of the scene's size. */
const KEY_TURN = 1.1;
const KEY_MOVE = 0.45;

export class Controls {
  /** Called with the place of a click in the picture, -1 to 1 to the right and up. */
  onClick: (x: number, y: number, event: MouseEvent) => void = () => {};
  onMove: () => void = () => {};
  private readonly pointers = new Map<number, PointerEvent>();
  private travelled = 0;
  private pinch = 0;
  private readonly keys = new Set<string>();
  private keysSince = 0;

  /** `size` is the length of the scene that movements are measured by. */
  constructor(
    private readonly stage: Stage,
    private readonly up: Vector,
    private readonly size: number,
  ) {
    const { canvas } = stage;
    canvas.addEventListener("pointerdown", (event) => this.press(event));
    canvas.addEventListener("pointermove", (event) => this.drag(event));
    canvas.addEventListener("pointerup", (event) => this.release(event));
    canvas.addEventListener("pointercancel", (event) => this.release(event));
    // A dialog that opens before this event would get it, and close again.
    canvas.addEventListener("click", (event) => this.click(event));
    canvas.addEventListener("contextmenu", (event) => event.preventDefault());
    canvas.addEventListener("wheel", (event) => this.wheel(event), { passive: false });
    canvas.addEventListener("keydown", (event) => this.keyDown(event));
    canvas.addEventListener("keyup", (event) => this.keys.delete(nameOfKey(event)));
    canvas.addEventListener("blur", () => this.keys.clear());
  }

  private change(change: (pose: Pose) => Pose): void {
    if (this.stage.pose !== null) {
      this.onMove();
      this.stage.pose = change(this.stage.pose);
    }
  }

  private press(event: PointerEvent): void {
    this.stage.canvas.setPointerCapture(event.pointerId);
    this.stage.canvas.focus({ preventScroll: true });
    if (this.pointers.size === 0) {
      this.travelled = 0;
    }
    this.pointers.set(event.pointerId, event);
    this.pinch = this.spread();
  }

  private drag(event: PointerEvent): void {
    const last = this.pointers.get(event.pointerId);
    if (last === undefined) {
      return;
    }
    const [dx, dy] = [event.clientX - last.clientX, event.clientY - last.clientY];
    this.pointers.set(event.pointerId, event);
    this.travelled += Math.hypot(dx, dy);
    if (this.travelled < CLICK) {
      return;
    }
    if (this.pointers.size > 1) {
      this.pan(dx / this.pointers.size, dy / this.pointers.size);
      const spread = this.spread();
      this.change((pose) => zoomed(pose, this.pinch / Math.max(1, spread), 0.01 * this.size));
      this.pinch = spread;
    } else if ((event.buttons & 4) !== 0 || (event.buttons & 1 && event.ctrlKey)) {
      this.pan(dx, dy);
    } else if ((event.buttons & 2) !== 0) {
      this.change((pose) => lookedAround(pose, this.up, TURN * 0.5 * dx, TURN * 0.5 * dy));
    } else {
      this.change((pose) => orbited(pose, this.up, -TURN * dx, -TURN * dy));
    }
  }

  private release(event: PointerEvent): void {
    this.pointers.delete(event.pointerId);
    this.pinch = this.spread();
  }

  private click(event: MouseEvent): void {
    if (this.pointers.size === 0 && this.travelled < CLICK) {
      const { left, top, width, height } = this.stage.canvas.getBoundingClientRect();
      this.onClick((2 * (event.clientX - left)) / width - 1, 1 - (2 * (event.clientY - top)) / height, event);
    }
  }

  private spread(): number {
    const [first, second] = [...this.pointers.values()];
    return second === undefined ? 0 : Math.hypot(first.clientX - second.clientX, first.clientY - second.clientY);
  }

  private pan(dx: number, dy: number): void {
    this.change((pose) => {
      const [, tangentY] = tangentsOf(pose, this.stage.aspect);
      const length = (2 * pose.reach * tangentY) / this.stage.canvas.clientHeight;
      return moved(pose, -dx * length, dy * length, 0);
    });
  }

  private wheel(event: WheelEvent): void {
    event.preventDefault();
    const lines = event.deltaMode === WheelEvent.DOM_DELTA_LINE ? 20 : 1;
    const steps = Math.max(-120, Math.min(120, lines * event.deltaY));
    this.change((pose) => zoomed(pose, Math.exp(0.0016 * steps), 0.01 * this.size));
  }

  private keyDown(event: KeyboardEvent): void {
    const key = nameOfKey(event);
    if (event.ctrlKey || event.metaKey || event.altKey || !(key in KEYS)) {
      return;
    }
    event.preventDefault();
    const first = this.keys.size === 0;
    this.keys.add(key);
    if (event.shiftKey) this.keys.add("shift");
    else this.keys.delete("shift");
    if (first) {
      // A key that is let go before the next frame moves the camera too.
      this.keysSince = performance.now();
      this.keyStep(this.keysSince);
    }
  }

  private keyStep(now: number): void {
    const seconds = Math.min(0.1, Math.max(0.03, (now - this.keysSince) / 1000));
    this.keysSince = now;
    const total = { turn: 0, tip: 0, right: 0, up: 0, forward: 0, zoom: 0 };
    for (const key of this.keys) {
      for (const [name, value] of Object.entries(KEYS[key] ?? {})) {
        total[name as keyof typeof total] += value;
      }
    }
    if (Object.values(total).some((value) => value !== 0)) {
      const turnCamera = this.keys.has("shift") ? lookedAround : orbited;
      const side = this.keys.has("shift") ? -1 : 1;
      const [angle, length] = [KEY_TURN * seconds * side, KEY_MOVE * seconds * this.size];
      this.change((pose) => {
        const turned = turnCamera(pose, this.up, angle * total.turn, angle * total.tip);
        const shifted = moved(turned, length * total.right, length * total.up, length * total.forward);
        return zoomed(shifted, Math.exp(1.2 * seconds * total.zoom), 0.01 * this.size);
      });
    }
    if (this.keys.size > 0) {
      requestAnimationFrame((next) => this.keyStep(next));
    }
  }
}

type Movement = Partial<Record<"turn" | "tip" | "right" | "up" | "forward" | "zoom", number>>;

const KEYS: Record<string, Movement> = {
  arrowleft: { turn: -1 },
  arrowright: { turn: 1 },
  arrowup: { tip: -1 },
  arrowdown: { tip: 1 },
  w: { forward: 1 },
  s: { forward: -1 },
  a: { right: -1 },
  d: { right: 1 },
  q: { up: -1 },
  e: { up: 1 },
  "+": { zoom: -1 },
  "=": { zoom: -1 },
  "-": { zoom: 1 },
};

const nameOfKey = (event: KeyboardEvent): string => event.key.toLowerCase();
