"""What programs and tests take for granted: star imports as on LeetCode, its list and tree nodes, sorted containers.

All of it is text that runs inside the jail, in front of the program.
"""

from __future__ import annotations

import re
from functools import cache
from importlib.resources import files
from importlib.util import find_spec

from infra.sandbox.limits import SandboxError

_MODULES = (
    "bisect", "collections", "copy", "functools", "heapq", "itertools", "json", "math", "operator", "random", "re",
    "string", "sys",
)  # fmt: skip
_STARS = ("bisect", "collections", "functools", "heapq", "itertools", "math", "operator", "string", "typing")
NODES = """
class ListNode:
    def __init__(self, val=0, next=None):
        self.val, self.next = val, next

class TreeNode:
    def __init__(self, val=0, left=None, right=None):
        self.val, self.left, self.right = val, left, right

def list_node(values):
    head = None
    for value in reversed(values):
        head = ListNode(value, head)
    return head

def list_values(node):
    values = []
    while node is not None:
        values.append(node.val)
        node = node.next
    return values

def is_same_list(left, right):
    return list_values(left) == list_values(right)

def tree_node(values):
    nodes = [None if value is None else TreeNode(value) for value in values]
    waiting = iter(nodes[1:])
    for node in filter(None, nodes):
        node.left, node.right = next(waiting, None), next(waiting, None)
    return nodes[0] if nodes else None

def tree_values(node):
    values, level = [], [node]
    while any(level):
        values += [None if item is None else item.val for item in level]
        level = [side for item in level if item is not None for side in (item.left, item.right)]
    while values and values[-1] is None:
        values.pop()
    return values

def is_same_tree(left, right):
    return tree_values(left) == tree_values(right)
"""
# Builtins last, since star imports shadow `pow` and others.
PRELUDE = "\n".join(
    [f"import {name}" for name in _MODULES]
    + [f"from {name} import *" for name in _STARS]
    + ["from builtins import *", NODES]
)
# As deep as LiveCodeBench lets a program recurse.
_DEEPER = "sys.setrecursionlimit(50_000)"
# How a test compares nodes, and what stands for them outside of the jail: (values of the found, builder of the wanted).
NODE_COMPARISONS = {"is_same_list": ("list_values", "list_node"), "is_same_tree": ("tree_values", "tree_node")}

_SORTED = re.compile(r"\bsortedcontainers\b|\bSorted(?:List|KeyList|Dict|Set)\b")
_SORTED_MODULES = ("sortedlist", "sortedset", "sorteddict")
_LOAD = """
def _load(sources):
    import sys, types
    package = sys.modules["sortedcontainers"] = types.ModuleType("sortedcontainers")
    package.__path__ = []
    for name, source in sources.items():
        module = sys.modules[f"sortedcontainers.{{name}}"] = types.ModuleType(f"sortedcontainers.{{name}}")
        module.__package__ = "sortedcontainers"
        exec(compile(source, f"{{name}}.py", "exec"), vars(module))
        vars(package).update({{key: value for key, value in vars(module).items() if key.startswith("Sorted")}})
_load({sources!r})
del _load
from sortedcontainers import SortedDict, SortedList, SortedKeyList, SortedSet
"""


def prelude_for(program: str) -> str:
    """The prelude of a program; with sortedcontainers, which no jail has installed, where the program names it."""
    libraries = _sorted_containers() if _SORTED.search(program) else ""
    return f"{libraries}\n{PRELUDE}\n{_DEEPER}"


@cache
def known_names() -> frozenset[str]:
    """Names that stand for something before any program has run: builtins, and what the prelude defines."""
    names: dict[str, object] = {}
    exec(PRELUDE, names)
    return frozenset(names) | {"SortedList", "SortedKeyList", "SortedDict", "SortedSet", "sortedcontainers"}


@cache
def _sorted_containers() -> str:
    if find_spec("sortedcontainers") is None:
        raise SandboxError("a program asks for sortedcontainers, which is missing here; `pip install sortedcontainers`")
    folder = files("sortedcontainers")
    return _LOAD.format(sources={name: (folder / f"{name}.py").read_text("utf-8") for name in _SORTED_MODULES})
