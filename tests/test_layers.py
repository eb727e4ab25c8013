"""The house's walls: imports point downwards, and each dependency has one landlord."""

import ast
import subprocess
import sys
from pathlib import Path

import restyle

SOURCE = Path(restyle.__file__).parent

# Rooms on one line do not import each other. A room that is not listed fails the test: place it with thought.
LAYERS = [
    {"cli"},
    {"serve", "learn", "export", "batch"},
    {"video"},
    {"stylizer"},
    {"controls", "painter"},
    {"style", "runtime", "gallery", "image", "tiling", "weights", "cache", "metrics", "nn"},
    {"errors"},
]
# Deliberate exceptions: inside nn the reading order is ops, then pretrained and losses, then networks, then the two.
INSIDE_NN = {"ops": 0, "pretrained": 1, "losses": 1, "style_distances": 1, "networks": 2, "reference": 3, "fast": 3}

LANDLORDS = {
    "torch": {"nn", "learn", "export"},
    "accelerate": {"learn"},
    "safetensors": {"nn"},
    "onnx": {"export", "controls"},
    "tflite": {"controls"},
    "openvino": {"runtime", "export"},
    "onnxruntime": {"runtime", "export"},
    "PIL": {"image"},
    "pillow_heif": {"image"},
    "platformdirs": {"cache"},
    "typer": {"cli"},
    "rich": {"cli"},
    "av": {"video"},
    "cv2": {"video"},
    "pyvirtualcam": {"video"},
    "starlette": {"serve"},
    "fastapi": {"serve"},
    "anyio": {"serve"},
    "pydantic": {"serve"},
    "prometheus_client": {"serve"},
    "uvicorn": {"serve"},
    "ray": {"batch"},
    "pyarrow": {"batch"},
    "depthai": {"video"},
    "luxonis_ml": {"export"},
    "numpy": {"runtime", "painter", "stylizer", "style", "controls", "image", "tiling", "metrics"}
    | {"nn", "learn", "export", "video", "serve", "batch"},
}


def modules():
    for path in sorted(SOURCE.rglob("*.py")):
        parts = path.relative_to(SOURCE).with_suffix("").parts
        if parts[-1] == "__init__":
            parts = parts[:-1]
        yield path, parts


def imported(path):
    """Full names of everything a module imports, wherever in the module; type-only imports are left out."""
    tree = ast.parse(path.read_text())
    skipped = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
        for inner in ast.walk(node)
    }
    for node in ast.walk(tree):
        if id(node) in skipped:
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith("import_module"):
            yield from (given.value for given in node.args[:1] if isinstance(given, ast.Constant))


def level(room):
    found = [index for index, rooms in enumerate(LAYERS) if room in rooms]
    assert found, f"the room {room!r} has no place in LAYERS"
    return found[0]


def test_imports_point_downwards():
    for path, parts in modules():
        if not parts or parts[0] == "__main__":
            continue
        own = level(parts[0])
        for name in imported(path):
            words = name.split(".")
            if words[0] != "restyle" or (len(words) > 1 and words[1] == parts[0]):
                continue
            if len(words) == 1 or words[1] in dir(restyle):
                # The package's own face leads everywhere, so only the topmost room may look at it.
                assert parts[0] == "cli", f"{'.'.join(parts)} imports the package itself"
                continue
            assert level(words[1]) > own, f"{'.'.join(parts)} imports {name}, which is not below it"


def test_nn_reads_from_ops_outwards():
    for path, parts in modules():
        if len(parts) == 2 and parts[0] == "nn":
            for name in imported(path):
                if name.startswith("restyle.nn."):
                    assert INSIDE_NN[name.split(".")[2]] < INSIDE_NN[parts[1]], f"nn.{parts[1]} imports {name}"


def test_each_dependency_has_one_landlord():
    for path, parts in modules():
        for name in imported(path):
            top = name.split(".")[0]
            if top in sys.stdlib_module_names or top == "restyle":
                continue
            assert top in LANDLORDS, f"{path.name} imports {top}, which has no landlord"
            assert parts[0] in LANDLORDS[top], f"{'.'.join(parts)} imports {top}, whose landlord is {LANDLORDS[top]}"


def test_importing_restyle_is_light():
    code = "import restyle, sys; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    heavy = {"torch", "openvino", "onnxruntime", "numpy", "PIL", "typer", "rich"}
    assert not heavy & set(loaded)


def test_stylizing_needs_no_torch(tmp_path):
    code = (
        "import sys; sys.modules['torch'] = None\n"
        "import numpy as np, restyle\n"
        "picture = np.full((40, 40, 3), 90, np.uint8)\n"
        "model = restyle.Stylizer.load()\n"
        "assert model.apply(picture, model.encode_style(picture)).shape == (40, 40, 3)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, env={"RESTYLE_CACHE": str(tmp_path), "PATH": ""})


def test_public_names_exist_and_are_all():
    for name in restyle.__all__:
        assert getattr(restyle, name).__name__ == name
    assert set(dir(restyle)) == {*restyle.__all__, "__version__"}
