// What is shown until the scene is there, or if it does not come.

import { element } from "./elements";

const megabytes = (bytes: number): string => (bytes / 1e6).toFixed(1);

/** Shows how much of the scene has come. */
export function showProgress(loaded: number, total: number | null): void {
  const bar = element<HTMLProgressElement>("loading-bar");
  if (total === null) {
    bar.removeAttribute("value");
    element("loading-text").textContent = `Loading the scene: ${megabytes(loaded)} MB`;
  } else {
    bar.value = loaded / total;
    element("loading-text").textContent = `Loading the scene: ${megabytes(loaded)} of ${megabytes(total)} MB`;
  }
}

export function showStep(text: string): void {
  element("loading-bar").hidden = true;
  element("loading-text").textContent = text;
}

export function hideLoading(): void {
  element("loading").hidden = true;
}

/** Shows why there is no scene, in place of the page. */
export function showFailure(message: string): void {
  for (const id of ["loading", "panel", "photographs", "scene"]) {
    element(id).hidden = true;
  }
  element("failure-text").textContent = message;
  element("failure").hidden = false;
}
