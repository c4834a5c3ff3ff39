"""Generate qc_adapter/v1 from protos/, or with --check say whether the committed code is what would be generated."""

from __future__ import annotations

import filecmp
import sys
import tempfile
from importlib.resources import files
from pathlib import Path

from grpc_tools import protoc

ROOT = Path(__file__).resolve().parent.parent
PROTOS = sorted((ROOT / "protos").rglob("*.proto"))
# The path of a proto file is its Python path, so the imports of the generated code need no patching.
PACKAGE = Path("qc_adapter/v1")


def generate(target: Path) -> None:
    """Write messages, services and their type stubs below the target folder."""
    google = files("grpc_tools") / "_proto"
    arguments = [
        "protoc",
        f"-I{ROOT / 'protos'}",
        f"-I{google}",
        f"--plugin=protoc-gen-mypy={Path(sys.executable).with_name('protoc-gen-mypy')}",
        f"--plugin=protoc-gen-mypy_grpc={Path(sys.executable).with_name('protoc-gen-mypy_grpc')}",
        f"--python_out={target}",
        f"--grpc_python_out={target}",
        f"--mypy_out=quiet:{target}",
        f"--mypy_grpc_out=quiet:{target}",
        *map(str, PROTOS),
    ]
    if protoc.main(arguments) != 0:
        raise SystemExit("protoc failed")


def drift() -> list[str]:
    """Return the names of generated files that differ from the committed ones."""
    with tempfile.TemporaryDirectory() as folder:
        generate(Path(folder))
        fresh = {path.name: path for path in (Path(folder) / PACKAGE).iterdir()}
        kept = {path.name: path for path in (ROOT / PACKAGE).glob("*_pb2*")}
        return sorted(
            name
            for name in fresh.keys() | kept.keys()
            if name not in fresh or name not in kept or not filecmp.cmp(fresh[name], kept[name], shallow=False)
        )


def main() -> None:
    """Generate, or check."""
    if "--check" not in sys.argv[1:]:
        generate(ROOT)
        return
    if names := drift():
        raise SystemExit(f"generated code is not up to date ({', '.join(names)}): run `make proto` and commit")


if __name__ == "__main__":
    main()
