"""The tree of exceptions is as its docstring draws it, and has every exception of the package."""

import importlib
import inspect
import pkgutil

import mediastreams
from mediastreams import exceptions
from mediastreams.exceptions import MediaStreamsError

NOT_INSTALLED = ("grpc", "google", "gunicorn", "redis")  # extras, which may not be there


def modules():
    for info in pkgutil.walk_packages(mediastreams.__path__, "mediastreams."):
        try:
            yield importlib.import_module(info.name)
        except ModuleNotFoundError as error:
            assert error.name.partition(".")[0] in NOT_INSTALLED, info.name


def defined():
    """Every public exception class, from the module that defines it."""
    return {
        cls
        for module in modules()
        for name, cls in inspect.getmembers(module, inspect.isclass)
        if issubclass(cls, Exception) and cls.__module__ == module.__name__ and not name.startswith("_")
    }


def drawn():
    """The tree of the docstring: each name with its base and the module that defines it."""
    bases, tree = [], {}
    for line in exceptions.__doc__.split("\n"):
        if not line.startswith("    "):
            continue
        depth = (len(line) - len(line.lstrip())) // 4 - 1
        name, *module = line.split()[:2]
        del bases[depth:]
        tree[name] = (bases[-1] if bases else "Exception", module[0] if module else "exceptions")
        bases.append(name)
    return tree


def test_the_tree_is_as_drawn():
    assert drawn() == {
        cls.__name__: (cls.__base__.__name__, cls.__module__.removeprefix("mediastreams."))
        for cls in defined()
    }


def test_every_exception_has_the_base():
    assert all(issubclass(cls, MediaStreamsError) for cls in defined())
