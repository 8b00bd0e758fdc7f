"""Config: named values with attributes, that can be frozen."""

import json
from collections.abc import ItemsView, Iterator, KeysView, ValuesView
from typing import Any


class Config:
    """A dict whose items are attributes too, and which can be frozen.

    Args:
        kwargs: the items.

    >>> config = Config(rate=0.1)
    >>> config.seed = 3
    >>> config["seed"], config.to_json()
    (3, '{"rate": 0.1, "seed": 3}')
    """

    _items: dict[str, Any]
    _frozen: bool

    def __init__(self, **kwargs: Any):
        self.__dict__.update(_items=kwargs, _frozen=False)

    @property
    def frozen(self) -> bool:
        """Whether changes are refused."""
        return self._frozen

    def freeze(self) -> None:
        """Refuse changes from now on."""
        self.__dict__["_frozen"] = True

    def unfreeze(self) -> None:
        """Allow changes again."""
        self.__dict__["_frozen"] = False

    def _changing(self) -> dict[str, Any]:
        if self._frozen:
            raise ValueError("Cannot mutate attribute(s) because the config is frozen.")
        return self._items

    def as_dict(self) -> dict[str, Any]:
        """Return the items as a dict of its own."""
        return dict(self._items)

    def to_json(self) -> str:
        """Return the items as JSON."""
        return json.dumps(self._items)

    def keys(self) -> KeysView[str]:
        """Return the names."""
        return self._items.keys()

    def values(self) -> ValuesView[Any]:
        """Return the values."""
        return self._items.values()

    def items(self) -> ItemsView[str, Any]:
        """Return the names with their values."""
        return self._items.items()

    def pop(self, *args: Any) -> Any:
        """Remove an item, and return its value or the default."""
        return self._changing().pop(*args)

    def update(self, *args: Any, **kwargs: Any) -> None:
        """Set items."""
        self._changing().update(*args, **kwargs)

    def get(self, keyname: str, value: Any = None) -> Any:
        """Return the value of an item, or a default."""
        return self._items.get(keyname, value)

    def __getattr__(self, name: str) -> Any:
        try:
            return self.__dict__["_items"][name]
        except KeyError:
            raise AttributeError(f"The config has no attribute {name!r}.") from None

    def __setattr__(self, name: str, value: Any) -> None:
        if name in dir(type(self)):
            raise AttributeError(f"{name!r} is a method of Config: set it as config[{name!r}].")
        self._changing()[name] = value

    def __delattr__(self, name: str) -> None:
        self._changing().pop(name)

    __getitem__ = __getattr__

    def __setitem__(self, key: str, item: Any) -> None:
        self._changing()[key] = item

    def __delitem__(self, key: str) -> None:
        del self._changing()[key]

    def __len__(self) -> int:
        return len(self._items)

    def __iter__(self) -> Iterator[str]:
        return iter(list(self._items))

    def __contains__(self, key: object) -> bool:
        return key in self._items

    def __repr__(self) -> str:
        return f"<Config {self._items}>"
