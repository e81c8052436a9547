// What scene.json says of a scene.

import { FoundError } from "./errors";
import type { SelectionSettings } from "./selection";

export type Vector = [number, number, number];
/** Three rows. */
export type Rotation = [Vector, Vector, Vector];

/** A photograph's camera: camera to world, x right, y up, looking along -z. */
export interface View {
  name: string;
  split: string;
  position: Vector;
  rotation: Rotation;
  /** Vertical field of view in degrees. */
  fov_y: number;
  width: number;
  height: number;
  thumbnail: string | null;
}

export interface StoredAnswer {
  text: string;
  file: string;
  list: "texts" | "vocabulary";
}

export interface Scene {
  format: string;
  name: string;
  live: boolean;
  splats: { file: string; count: number };
  up: Vector;
  views: View[];
  levels: string[];
  query: {
    level: string;
    threshold: number;
    softness: number;
    temperature: number;
    negatives: string[];
    prompts?: boolean;
  };
  selection: SelectionSettings;
  config?: string;
  /** Further options of the commands that the page shows. */
  options?: string[];
  encoder: string;
  /** Texts that are asked when the page opens. */
  texts: string[];
  answers: StoredAnswer[];
}

export const SCENE_FORMAT = "genlangsplat-page-1";

/** Checks what scene.json holds before the page relies on it. */
export function checkedScene(value: unknown): Scene {
  const scene = value as Partial<Scene> | null;
  if (scene === null || typeof scene !== "object" || scene.format !== SCENE_FORMAT) {
    throw new FoundError(
      `scene.json is of the format "${String(scene?.format)}", expected "${SCENE_FORMAT}". ` +
        "Write the scene again with the version of gen-langsplat that this page is from.",
    );
  }
  for (const part of ["splats", "views", "levels", "query", "selection"] as const) {
    if (scene[part] === undefined) {
      throw new FoundError(`scene.json has no "${part}". Write the scene again.`);
    }
  }
  return { up: [0, 0, 1], name: "scene", live: false, answers: [], texts: [], ...scene } as Scene;
}
