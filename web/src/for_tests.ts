// What tests and measurements reach as `window.genlangsplat`: the parts of the page, and the twins of Python functions.

import type { Actions } from "./actions";
import type { Asking } from "./asking";
import { quoted } from "./command";
import type { LoadedScene } from "./drawing.worker";
import { joinLevels, relevancyOfCosines, softMask } from "./relevancy";
import type { Scene } from "./scene";
import { readScores } from "./scores";
import { cleaned, groups, peaks, selectGaussians } from "./selection";
import type { Stage } from "./stage";

export interface PageParts {
  scene: Scene;
  stage: Stage;
  asking: Asking;
  actions: Actions;
  loaded: LoadedScene;
}

const twins = { relevancyOfCosines, joinLevels, softMask, readScores, selectGaussians, cleaned, groups, peaks, quoted };

declare global {
  interface Window {
    genlangsplat?: PageParts & { twins: typeof twins };
  }
}

export function connectForTests(parts: PageParts): void {
  window.genlangsplat = { ...parts, twins };
}
