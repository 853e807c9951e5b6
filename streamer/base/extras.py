"""Libraries of the extras in pyproject.toml, which a default installation does not contain."""

import importlib
from types import ModuleType

from streamer.base.errors import NotInstalled


def import_extra(module: str, extra: str, what: str) -> ModuleType:
    """Imports a module that `extra` installs. Raises NotInstalled, which says what needs it: "training needs …"."""
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name != module:
            raise NotInstalled(f"{what} needs {module}, whose {error.name} is not installed{_how(extra)}") from error
        raise NotInstalled(f"{what} needs {module}, which is not installed{_how(extra)}") from None
    except (ImportError, OSError) as error:  # OSError: a shared library that cannot be loaded
        first = next(iter(str(error).splitlines()), "") or repr(error)
        raise NotInstalled(f"{what} needs {module}, which cannot be imported: {first}") from error


def _how(extra: str) -> str:
    return f": pip install 'lipstream[{extra}]'"
