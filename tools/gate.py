"""Refuse long functions, long files and rooms without a name. Complexity and arguments are ruff's to count.

python tools/gate.py [FOLDER ...]
"""

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

ROOMS = ("hemo", "ray_jobs", "benchmarks", "tests", "tools")
FUNCTION_LINES = 50
FILE_LINES = 400
NO_NAMES = {"base", "common", "helpers", "misc", "util", "utils"}


def faults(file: Path) -> Iterator[str]:
    """Yield one line for each rule that a Python file breaks, `file:line: what`."""
    source = file.read_text(encoding="utf-8")
    lines = len(source.splitlines())
    if lines > FILE_LINES:
        yield f"{file}:1: {lines} lines, at most {FILE_LINES} in a file"
    if NO_NAMES & {file.stem, file.parent.name}:
        yield f"{file}:1: say what is in it; none of {', '.join(sorted(NO_NAMES))} does"
    for node in ast.walk(ast.parse(source, filename=str(file))):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            length = (node.end_lineno or node.lineno) - node.lineno + 1
            if length > FUNCTION_LINES:
                yield f"{file}:{node.lineno}: {node.name} has {length} lines, at most {FUNCTION_LINES} in a function"


def main(folders: list[str]) -> int:
    """Print the faults below the folders and return how many there are."""
    files = sorted(file for folder in folders for file in Path(folder).rglob("*.py"))
    found = [fault for file in files for fault in faults(file)]
    print("\n".join([*found, f"gate: {len(files)} files, {len(found)} faults"]))
    return len(found)


if __name__ == "__main__":
    sys.exit(min(main(sys.argv[1:] or list(ROOMS)), 1))
