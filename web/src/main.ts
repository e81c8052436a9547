// Starts the page.

import { Actions } from "./actions";
import type { AnswersRequest, AnswersResults } from "./answers.worker";
import { Asking } from "./asking";
import { add, lengthOf, poseLookingAt, poseOfView, type Pose } from "./camera";
import { showChips } from "./chips";
import { Client } from "./client";
import { Clicks } from "./clicks";
import { Controls } from "./controls";
import { connectForTests } from "./for_tests";
import type { LoadedScene } from "./drawing.worker";
import { element } from "./elements";
import { messageOf } from "./errors";
import { readFile, readText } from "./files";
import { Flight } from "./flight";
import { Helper } from "./helper";
import { connectHelp, connectKeys } from "./keyboard";
import { hideLoading, showFailure, showProgress, showStep } from "./loading";
import { Photographs } from "./photographs";
import { checkedScene, type Scene } from "./scene";
import { connectSettings } from "./settings";
import { closestTexts, connectGivenTexts } from "./shared";
import { Stage } from "./stage";
import { State } from "./state";
import { LiveTexts, SharedTexts } from "./texts";
import { followTheme } from "./theme";
import answersSource from "worker:./answers.worker.ts";

async function start(): Promise<void> {
  let setGround: (ground: [number, number, number]) => void = () => {};
  let ground: [number, number, number] = [0, 0, 0];
  const toggleTheme = followTheme((color) => {
    ground = color;
    setGround(color);
  });
  const showHelp = connectHelp();
  const stage = new Stage(element<HTMLCanvasElement>("scene"));
  setGround = (color) => stage.setBackground(color);
  setGround(ground);

  const scene = checkedScene(JSON.parse(await readText("scene.json")));
  element("name").textContent = scene.name;
  document.title = `${scene.name} - Gen-LangSplat`;

  const answers = new Helper<AnswersRequest, AnswersResults>(answersSource);
  const client = scene.live ? new Client() : null;
  const texts =
    client === null
      ? new SharedTexts(scene, answers)
      : new LiveTexts(client, answers, scene.query.prompts === true);
  const state = new State(scene);
  const asking = new Asking(state, stage, answers, texts);
  const flight = new Flight(stage);
  const actions = new Actions(scene, asking, flight, client);
  const showGiven = client === null ? connectGivenTexts(scene, asking) : () => {};
  element("copy").hidden = client === null;

  const show = (): void => {
    showChips(
      state.chips,
      (chip) => void asking.toggle(chip),
      (chip) => void asking.remove(chip),
    );
    element("actions").classList.toggle("empty", state.chips.length === 0 && state.hidden === null);
    for (const id of ["isolate", "hide", "peak", "save-ply", "save-spz", "copy"]) {
      element<HTMLButtonElement>(id).disabled = state.shown.length === 0;
    }
    element<HTMLButtonElement>("show-all").disabled = state.hidden === null;
    showGiven();
  };
  asking.onChange = show;
  asking.show = (text, failed) => {
    element("answer").textContent = text;
    element("answer").classList.toggle("failed", failed);
  };
  show();
  connectSettings(scene, asking);

  element("ask").addEventListener("submit", (event) => {
    event.preventDefault();
    const box = element<HTMLInputElement>("text");
    const line = client === null ? closestTexts(scene, box.value) : box.value;
    box.value = "";
    void asking.ask(line);
  });
  element("text").focus();

  const buttons: Record<string, () => Promise<string>> = {
    isolate: () => actions.isolate(),
    hide: () => actions.hide(),
    "show-all": () => actions.showAll(),
    peak: () => actions.nextPeak(),
    "save-ply": () => actions.save("ply"),
    "save-spz": () => actions.save("spz"),
    copy: () => actions.copyCommand(),
  };
  for (const [id, action] of Object.entries(buttons)) {
    element(id).addEventListener("click", () => void actions.run(action));
  }

  const photographs = new Photographs(scene.views, (index) => {
    flight.to(poseOfView(scene.views[index], stage.pose?.reach ?? 1));
  });
  if (scene.views.length > 0) {
    stage.pose = poseOfView(scene.views[0], 1);
  }

  const file = await readFile(scene.splats.file, showProgress);
  showStep("Unpacking the splats");
  const loaded = await stage.load(file);
  const size = sizeOf(scene, loaded);
  stage.pose = firstPose(scene, loaded, size);
  await answers.ask(
    {
      kind: "scene",
      means: loaded.means,
      opacities: loaded.opacities,
      settings: scene.selection,
      temperature: scene.query.temperature,
      levels: scene.levels,
    },
    [loaded.means.buffer, loaded.opacities.buffer],
  );
  asking.open();

  const controls = new Controls(stage, scene.up, size);
  const clicks = new Clicks(scene, asking, client);
  controls.onMove = () => flight.stop();
  controls.onClick = (x, y, event) => void clicks.at(x, y, event.clientX, event.clientY);
  element("scene").addEventListener("keydown", (event) => {
    if (event.key === "Enter") {
      const [x, y] = stage.shift;
      void clicks.at(x, y, (innerWidth * (1 + x)) / 2, (innerHeight * (1 - y)) / 2);
    }
  });
  connectKeys({
    "/": () => element("text").focus(),
    "?": showHelp,
    t: toggleTheme,
    i: () => element("isolate").click(),
    h: () => element("hide").click(),
    o: () => element("show-all").click(),
    n: () => element("peak").click(),
    "[": () => photographs.step(-1),
    "]": () => photographs.step(1),
    ...Object.fromEntries(
      Array.from({ length: 9 }, (_, index) => [
        String(index + 1),
        () => state.chips[index] && void asking.toggle(state.chips[index]),
      ]),
    ),
  });
  stage.onShown = hideLoading;
  connectForTests({ scene, stage, asking, actions, loaded });

  if (scene.texts.length > 0) {
    void asking.ask(client === null ? closestTexts(scene, scene.texts.join(";")) : scene.texts.join(";"));
  }
  void photographs.load();
}

/** A length by which movements in the scene are measured. */
function sizeOf(scene: Scene, { spread }: LoadedScene): number {
  const size = lengthOf(add(spread.high, spread.low, -1));
  const cameras = scene.views.map((view) => lengthOf(add(view.position, spread.middle, -1)));
  return Math.max(1e-3, Math.min(size, ...(cameras.length > 0 ? [2 * Math.max(...cameras)] : [])));
}

/** The first photograph's pose; without photographs, one that sees the whole scene. */
function firstPose(scene: Scene, { spread }: LoadedScene, size: number): Pose {
  if (scene.views.length === 0) {
    const position = add(spread.middle, [0.8 * size, -0.8 * size, 0.4 * size]);
    return poseLookingAt(position, spread.middle, scene.up, 0.6);
  }
  const distance = lengthOf(add(scene.views[0].position, spread.middle, -1));
  return poseOfView(scene.views[0], Math.max(0.3 * size, distance));
}

start().catch((error: unknown) => {
  console.error(error);
  showFailure(messageOf(error));
});
