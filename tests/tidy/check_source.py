#!/usr/bin/env python3
"""Rules of the source tree that a machine can check.

Usage: check_source.py ROOT               checks the tree, one line a broken rule
       check_source.py ROOT --self-test   checks that each rule catches a violation
"""

import pathlib
import re
import sys
import tomllib

FOLDERS = ("server", "engine", "kernels", "tests")
SUFFIXES = (".h", ".cc", ".cu", ".cuh")
TOP_LEVEL = {
    "CMakeLists.txt", "CMakePresets.json", "Dockerfile", "LICENSE", "README.md", "configs", "engine",
    "kernels", "proto", "scripts", "server", "tests",
}
UNTRACKED = {"build", "models"}  # What the scripts make; ignored by git.

INCLUDE = re.compile(r'^\s*#\s*include\s+(["<])([^">]+)[">]', re.MULTILINE)
PROJECT_PREFIXES = ("kernels/", "engine/", "server/", "proto/", "tests/", "comet/v1/",
                    "sentencepiece/")
LINK = re.compile(r"\]\((?![a-z]+:)([^)#\s]*)(?:#([^)\s]+))?\)")  # Of a page: a file, an anchor.
FENCED_CODE = re.compile(r"^ *```.*?^ *```", re.MULTILINE | re.DOTALL)
HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)
LINE_RULES = (
    # (what, pattern, prefixes where it is allowed)
    ("a CUDA header outside kernels/cuda", re.compile(r'#\s*include\s+<(cuda|cublas|nccl)'),
     ("kernels/cuda/",)),
    ("getenv outside server/main.cc", re.compile(r"\bgetenv\s*\("), ("server/main.cc", "tests/")),
    ("inline assembly or __CUDA_ARCH__ outside kernels/cuda/device",
     re.compile(r"\basm\s*(volatile)?\s*\(|__CUDA_ARCH__"), ("kernels/cuda/device/",)),
    ("TODO without an issue", re.compile(r"\b(TODO|FIXME|XXX|HACK)\b(?!\(#\d+\):)"), ()),
    ("using namespace outside a function", re.compile(r"^using namespace\b"), ()),
    ("throw", re.compile(r"^\s*throw\b"), ()),
    ("a line over 100 columns", re.compile(r"^.{101,}$"), ()),
)


def load_layers(root):
    text = (root / "scripts" / "layers.toml").read_text()
    layers = tomllib.loads(text)["layer"]
    return sorted(layers, key=lambda layer: len(layer["path"]), reverse=True)


def check_text(path, text, layers):
    """Broken rules of one file; `path` is relative to the root."""
    layer = next((l for l in layers if path.startswith(l["path"])), None)
    if layer is None:
        yield f"{path}: no layer in scripts/layers.toml"
        return
    for match in INCLUDE.finditer(text):
        quote, target = match.groups()
        if quote == '"' and not target.startswith(PROJECT_PREFIXES):
            yield f"{path}: \"{target}\" is not included from the repository root"
        if not target.startswith(PROJECT_PREFIXES):
            continue
        if not any(target.startswith(prefix) for prefix in layer["may_include"]):
            yield f"{path}: may not include {target} (layer {layer['path']})"
    if path.endswith((".h", ".cuh")) and "#pragma once" not in text:
        yield f"{path}: header without #pragma once"
    for number, line in enumerate(text.splitlines(), start=1):
        for what, pattern, allowed in LINE_RULES:
            if pattern.search(line) and not path.startswith(allowed or ("\0",)):
                yield f"{path}:{number}: {what}"


def anchors_of(text):
    """What links call a page's headings: "OpenAI's API" is openais-api."""
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-")
            for heading in HEADING.findall(FENCED_CODE.sub("", text))}


def check_page(path, text, root):
    """Links of one page that lead nowhere; `path` is relative to the root."""
    for target, anchor in LINK.findall(FENCED_CODE.sub("", text)):
        file = (root / path).parent / target
        if not file.exists():
            yield f"{path}: the link to {target} leads nowhere"
        elif anchor and (not target or file.suffix == ".md"):
            page = file.read_text(encoding="utf-8") if target else text
            if anchor not in anchors_of(page):
                yield f"{path}: the link to {target}#{anchor} leads to no heading"


def check_tree(root):
    layers = load_layers(root)
    for entry in sorted(root.iterdir()):
        if entry.name not in TOP_LEVEL | UNTRACKED and not entry.name.startswith("."):
            yield f"{entry.name}: unexpected top-level entry"
    yield from check_page("README.md", (root / "README.md").read_text(encoding="utf-8"), root)
    for folder in (*FOLDERS, "proto"):
        for file in sorted((root / folder).rglob("*")):
            path = file.relative_to(root).as_posix()
            if file.suffix in SUFFIXES:
                yield from check_text(path, file.read_text(encoding="utf-8"), layers)
            elif file.suffix == ".md":
                yield from check_page(path, file.read_text(encoding="utf-8"), root)


def self_test(root):
    """Each rule must catch its violation, and clean code must pass."""
    layers = load_layers(root)
    violations = {
        "kernels/base/a.h": '#pragma once\n#include "engine/engine.h"\n',
        "kernels/cpu/b.cc": '#include "kernels/reference/x.h"\n',
        "engine/scheduler/c.cc": '#include "server/http/x.h"\n',
        "server/http/d.cc": '#include "kernels/ops.h"\n',
        "engine/model/e.cc": "#include <cuda_runtime.h>\n",
        "engine/model/f.cc": 'auto x = getenv("HOME");\n',
        "kernels/cuda/g.cu": 'asm volatile("nop;");\n',
        "kernels/base/h.cc": "// TODO: later\n",
        "kernels/base/i.cc": "using namespace std;\n",
        "kernels/base/j.h": "int x;\n",
        "kernels/base/k.cc": "  throw 1;\n",
        "kernels/base/l.cc": "x" * 101 + "\n",
        "elsewhere/m.cc": "int x;\n",
        "engine/model/n.cc": '#include "rope.h"\n',
    }
    missed = [path for path, text in violations.items() if not list(check_text(path, text, layers))]
    clean = '#pragma once\n#include <vector>\n#include "kernels/base/status.h"\n// TODO(#12): x\n'
    wrong = list(check_text("engine/model/ok.h", clean, layers))
    pages = {
        "[gone](nowhere.md)": 1,
        "[gone](../README.md#no-such-heading), [gone](#here)": 2,
        "[there](../README.md#layers), [outside](https://example.org/a#b)": 0,
        "# It's here\n[there](#its-here)": 0,
        "```cpp\n[this](Type) {}\n# Not here\n```\n[gone](#not-here)": 1,
    }
    for page, num_broken in pages.items():
        if len(list(check_page("tests/page.md", page, root))) != num_broken:
            missed.append(f"the page {page!r}, expected {num_broken}")
    for path in missed:
        print(f"self-test: no rule caught the violation of {path}")
    for line in wrong:
        print(f"self-test: clean code was refused: {line}")
    return not missed and not wrong


def main():
    root = pathlib.Path(sys.argv[1]).resolve()
    if "--self-test" in sys.argv[2:]:
        return 0 if self_test(root) else 1
    errors = list(check_tree(root))
    print("\n".join(errors) if errors else "source tree: no broken rule")
    return 1 if errors else 0


if __name__ == "__main__":
    sys.exit(main())
