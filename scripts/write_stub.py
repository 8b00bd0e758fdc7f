"""Write hub/__init__.pyi, which tells editors and type checkers what `hub` has.

    python scripts/write_stub.py [--check]

The names of `hub` are imported when they are asked for, and the classes of families are made from a
table, so that no tool could see them otherwise. With `--check` nothing is written, and the exit
status is 1 where the file is out of date.
"""

import argparse
import ast
import difflib
import inspect
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

import hub  # noqa: E402

PATH = ROOT / "hub" / "__init__.pyi"
HEAD = '"""The names of hub and their types; made by scripts/write_stub.py."""\n\n'


def is_defined(value: Any) -> bool:
    """Whether the module of a class or function defines it by a statement."""
    tree = ast.parse(inspect.getsource(sys.modules[value.__module__]))
    return any(getattr(statement, "name", None) == value.__name__ for statement in tree.body)


def stub() -> str:
    """Return the content of the file."""
    imports, classes, aliases = ["from keraslite import __version__ as __version__"], [], []
    for name in sorted(hub.__all__):
        value = getattr(hub, name)
        if isinstance(value, ModuleType):
            imports.append(f"from hub import {name} as {name}")
        elif value.__name__ != name:
            aliases.append(f"{name} = {value.__name__}")
        elif is_defined(value):
            imports.append(f"from {value.__module__} import {name} as {name}")
        else:
            classes.append(f"class {name}({value.__bases__[0].__name__}): ...")
    parts = ("\n".join(lines) for lines in (sorted(imports), classes, aliases))
    return HEAD + "\n\n".join(parts) + "\n"


def main(arguments: list[str] | None = None) -> int:
    """Write the file, or check it; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--check", action="store_true", help="compare only")
    options = parser.parse_args(arguments)
    content = stub()
    if not options.check:
        PATH.write_text(content, encoding="utf-8")
        return 0
    current = PATH.read_text(encoding="utf-8") if PATH.exists() else ""
    if current == content:
        return 0
    print(f"{PATH.relative_to(ROOT)} is out of date: run python scripts/write_stub.py")
    print(*difflib.unified_diff(current.splitlines(), content.splitlines(), lineterm=""), sep="\n")
    return 1


if __name__ == "__main__":
    sys.exit(main())
