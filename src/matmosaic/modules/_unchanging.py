"""Objects that never change, so that copies of them are themselves."""

from __future__ import annotations

from typing import Any, NoReturn, Self


class Unchanging:
    """Base of classes whose attributes are set by ``object.__setattr__`` alone."""

    def __setattr__(self, name: str, value: Any) -> NoReturn:
        raise AttributeError(
            f"A {type(self).__name__} never changes; make another one instead of setting {name!r}."
        )

    def __delattr__(self, name: str) -> NoReturn:
        raise AttributeError(f"A {type(self).__name__} never changes; {name!r} cannot be deleted.")

    def __copy__(self) -> Self:
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        return self

    def __sklearn_clone__(self) -> Self:
        return self
