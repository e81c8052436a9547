// Dark or light: what the system prefers, until the reader chooses.

import { element } from "./elements";

const KEY = "genlangsplat-theme";
const GROUNDS: Record<string, [number, number, number]> = {
  dark: [13 / 255, 16 / 255, 22 / 255],
  light: [233 / 255, 236 / 255, 241 / 255],
};

/** Follows the theme, and calls back with the ground's color, now and whenever it changes. */
export function followTheme(onChange: (ground: [number, number, number]) => void): () => void {
  const preferred = matchMedia("(prefers-color-scheme: light)");
  let chosen = stored();
  const apply = (): void => {
    const theme = chosen ?? (preferred.matches ? "light" : "dark");
    document.documentElement.dataset["theme"] = theme;
    element("theme").textContent = theme === "light" ? "☾" : "☀";
    onChange(GROUNDS[theme]);
  };
  const toggle = (): void => {
    chosen = document.documentElement.dataset["theme"] === "light" ? "dark" : "light";
    try {
      localStorage.setItem(KEY, chosen);
    } catch (error) {
      // Without storage, as in some pages from disk, the choice lasts as long as the page.
      console.info("The theme is not kept:", error);
    }
    apply();
  };
  preferred.addEventListener("change", apply);
  element("theme").addEventListener("click", toggle);
  apply();
  return toggle;
}

function stored(): string | null {
  try {
    const theme = localStorage.getItem(KEY);
    return theme !== null && theme in GROUNDS ? theme : null;
  } catch {
    return null;
  }
}
