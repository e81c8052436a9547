// The command that writes the same selection.

import type { Question } from "./answering";
import type { Scene } from "./scene";

/** Quotes a word for a POSIX shell. */
export function quoted(word: string): string {
  return /^[\w@%+=:,./-]+$/.test(word) ? word : `'${word.replaceAll("'", `'"'"'`)}'`;
}

/** `gen-langsplat export` with what differs from its defaults. */
export function exportCommand(scene: Scene, texts: string[], question: Question): string {
  const words = ["gen-langsplat", "export", "--load-config", scene.config ?? "config.yml"];
  words.push(...(scene.options ?? []), ...optionOf("--text", texts), "--threshold", String(question.threshold));
  if (question.level !== "mean") {
    words.push("--level", question.level);
  }
  if (question.negatives.join(";") !== "object;things;stuff;texture") {
    words.push(...optionOf("--negatives", question.negatives));
  }
  if (scene.query.prompts === true) {
    words.push("--prompts");
  }
  if (scene.query.temperature !== 10) {
    words.push("--temperature", String(scene.query.temperature));
  }
  words.push("--output", "object.ply");
  return words.map(quoted).join(" ");
}

/** An option with its texts; texts that look like options are joined to it. */
function optionOf(name: string, texts: string[]): string[] {
  return texts.some((text) => text.startsWith("-")) ? [`${name}=${texts.join("; ")}`] : [name, ...texts];
}
