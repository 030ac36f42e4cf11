"""Rules of the house that no linter knows, checked on the syntax trees of src."""

import ast
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[2] / "src" / "isthmus"
FILES = sorted(SOURCE.rglob("*.py"))

FORBIDDEN_MODULES = {"pickle", "cloudpickle", "dill", "marshal", "shelve", "joblib"}
FORBIDDEN_CALLS = {
    "eval",
    "exec",
    "torch.load",
    "torch.save",
    "yaml.load",
    "yaml.unsafe_load",
    "yaml.full_load",
    "np.save",  # pickles object arrays unless told not to
    "numpy.save",
}
LONGEST_FILE = 400
LONGEST_FUNCTION = 80


def dangers(source: str) -> list[str]:
    """Each use of something that runs or unpickles what a file or partner says."""
    found = []
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.Import(names=names):
                found += [n.name for n in names if n.name.split(".")[0] in FORBIDDEN_MODULES]
            case ast.ImportFrom(module=str(module)) if module.split(".")[0] in FORBIDDEN_MODULES:
                found.append(module)
            case ast.Call(func=func, keywords=keywords):
                name = ast.unparse(func)
                safe = _says(keywords, "allow_pickle", False)
                if name in FORBIDDEN_CALLS and not safe:
                    found.append(name)
                if _says(keywords, "allow_pickle", True):
                    found.append(f"{name} with pickle")
                if _says(keywords, "shell", True):
                    found.append(f"{name} through a shell")
    return found


def _says(keywords: list[ast.keyword], name: str, value: object) -> bool:
    return any(
        keyword.arg == name
        and isinstance(keyword.value, ast.Constant)
        and keyword.value.value is value
        for keyword in keywords
    )


@pytest.mark.parametrize(
    "source",
    [
        "import pickle",
        "from pickle import loads",
        "eval('1')",
        "import torch\ntorch.load('x')",
        "import numpy as np\nnp.load('x', allow_pickle=True)",
        "np.save('x', y)",
        "import subprocess\nsubprocess.run('x', shell=True)",
    ],
)
def test_the_check_sees_dangers(source):
    assert dangers(source)


def test_the_check_lets_safe_code_pass():
    assert not dangers("import numpy as np\nnp.save('x', y, allow_pickle=False)\nnp.load('x')")


def test_nothing_in_src_executes_or_unpickles_what_it_reads():
    found = {str(path.relative_to(SOURCE)): dangers(path.read_text()) for path in FILES}
    assert {name: list_ for name, list_ in found.items() if list_} == {}


def test_no_file_is_too_long():
    lengths = {str(p.relative_to(SOURCE)): len(p.read_text().splitlines()) for p in FILES}
    assert {name: n for name, n in lengths.items() if n > LONGEST_FILE} == {}


def functions(path: Path) -> list[ast.FunctionDef | ast.AsyncFunctionDef]:
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef)
    return [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, kinds)]


def test_no_function_is_too_long():
    lengths = {
        f"{path.relative_to(SOURCE)}:{function.name}": function.end_lineno - function.lineno + 1
        for path in FILES
        for function in functions(path)
    }
    assert {name: n for name, n in lengths.items() if n > LONGEST_FUNCTION} == {}


def test_every_module_opens_with_its_purpose():
    bare = [
        str(path.relative_to(SOURCE))
        for path in FILES
        if path.read_text().strip() and not ast.get_docstring(ast.parse(path.read_text()))
    ]
    assert bare == []


def public(path: Path) -> list[ast.AST]:
    """Public functions and classes of a module, and public methods of its public classes."""
    found: list[ast.AST] = []
    waiting: list[ast.AST] = [ast.parse(path.read_text())]
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
    while waiting:
        for node in ast.iter_child_nodes(waiting.pop()):
            if isinstance(node, kinds) and not node.name.startswith("_"):
                found.append(node)
                if isinstance(node, ast.ClassDef) and not is_protocol(node):
                    waiting.append(node)
    return found


def is_protocol(node: ast.ClassDef) -> bool:
    # What a protocol asks for is explained where it is implemented, or in the protocol's own text.
    return any(ast.unparse(base).split("[")[0] == "Protocol" for base in node.bases)


def is_private(path: Path) -> bool:
    return any(part.startswith("_") and part != "__init__.py" for part in path.parts)


def is_override(node: ast.AST) -> bool:
    decorators = getattr(node, "decorator_list", [])
    return any(
        ast.unparse(decorator).split(".")[-1] in ("override", "overload", "setter")
        for decorator in decorators
    )


def test_public_functions_and_classes_have_docstrings():
    bare = [
        f"{path.relative_to(SOURCE)}:{node.name}"
        for path in FILES
        if not is_private(path.relative_to(SOURCE))
        for node in public(path)
        if not ast.get_docstring(node) and not is_override(node)
    ]
    assert bare == []
