"""Dtype policies by the paths of layers."""

import re
from collections.abc import Iterator, MutableMapping
from typing import Any

from keraslite import registry
from keraslite.dtype_policies.policy import DTypePolicy, dtype_policy, get
from keraslite.naming import path_of_layer


class DTypePolicyMap(DTypePolicy, MutableMapping):
    """Dtype policies by the paths of layers, for layers and models with several of them.

    A key is the path of a layer, or a regular expression that matches the whole of it. A layer
    that is given the map hands it on to the layers inside; each follows the policy of its path.

    Args:
        default_policy: the policy of paths that no key matches; the global one by default.
        policy_map: policies, their names or configs, by paths.

    Raises:
        ValueError: `default_policy` is a map.

    >>> policies = DTypePolicyMap("float32", {"encoder/.*": "mixed_bfloat16"})
    >>> policies["encoder/dense"].name, policies["decoder/dense"].name
    ('mixed_bfloat16', 'float32')
    """

    def __init__(self, default_policy: Any = None, policy_map: dict[str, Any] | None = None):
        if isinstance(default_policy, DTypePolicyMap):
            raise ValueError("`default_policy` cannot be a `DTypePolicyMap`.")
        if policy_map is not None and not isinstance(policy_map, dict):
            raise TypeError(
                f"If specified, `policy_map` must be a dict. Received: policy_map={policy_map} of "
                f"type {type(policy_map)}"
            )
        self._default = None if default_policy is None else get(default_policy)
        self._policies = {key: get(policy) for key, policy in (policy_map or {}).items()}

    @property
    def default_policy(self) -> DTypePolicy:
        """The policy of paths that no key matches."""
        return dtype_policy() if self._default is None else self._default

    @property
    def name(self) -> str:  # type: ignore[override]
        """The name of the default policy after "map_"."""
        return f"map_{self.default_policy.name}"

    @property
    def compute_dtype(self) -> str:  # type: ignore[override]
        """That of the default policy."""
        return self.default_policy.compute_dtype

    @property
    def variable_dtype(self) -> str:  # type: ignore[override]
        """That of the default policy."""
        return self.default_policy.variable_dtype

    @property
    def quantization_mode(self) -> str | None:  # type: ignore[override]
        """That of the default policy."""
        return self.default_policy.quantization_mode

    def __getitem__(self, key: str) -> DTypePolicy:
        if key in self._policies:
            return self._policies[key]
        matching = [pattern for pattern in self._policies if re.fullmatch(pattern, key)]
        if len(matching) > 1:
            raise ValueError(
                f"Path '{key}' matches multiple dtype policy specification keys: {matching}. Each "
                "path must match at most one key of a DTypePolicyMap."
            )
        return self._policies[matching[0]] if matching else self.default_policy

    def __setitem__(self, key: str, policy: Any) -> None:
        if key in self._policies:
            raise ValueError(
                f"{key} already exist in the DTypePolicyMap with value {self._policies[key]}. "
                "Delete it first."
            )
        try:
            self._policies[key] = get(policy)
        except Exception as error:
            raise ValueError(
                "Cannot interpret the assigned value by `dtype_policies.get`. Received: "
                f"{policy} of type {type(policy)}"
            ) from error

    def __delitem__(self, key: str) -> None:
        del self._policies[key]

    def __contains__(self, key: object) -> bool:
        return key in self._policies

    def __len__(self) -> int:
        return len(self._policies)

    def __iter__(self) -> Iterator[str]:
        return iter(self._policies)

    def get_config(self) -> dict[str, Any]:
        """The map's config; without a default, all policies follow the global one when it is read.

        Returns:
            The default's config or None, and the configs of the policies by their keys.
        """
        configs = registry.serialize_keras_object(self._policies)
        if self._default is None:
            for entry in configs.values():
                inner = entry["config"]
                inner["source_name" if "mode" in inner else "name"] = None
        default = registry.serialize_keras_object(self._default)
        return {"default_policy": default, "policy_map": configs}

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: Any = None) -> "DTypePolicyMap":
        """The map of a config."""
        return cls(**registry.deserialize_keras_object(config, custom_objects))

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, DTypePolicyMap)
            and self.default_policy == other.default_policy
            and self._policies == other._policies
        )

    __hash__ = DTypePolicy.__hash__

    def __repr__(self) -> str:
        mapping = [(key, policy.name) for key, policy in self._policies.items()]
        return f"<DTypePolicyMap default_policy={self.default_policy.name}, mapping={mapping}>"


class PolicyAtPath:
    """What a map says for one layer, whose path is known once it is built or called.

    Args:
        policies: the map.
        layer: the layer.
    """

    def __init__(self, policies: DTypePolicyMap, layer: Any):
        self.policies, self._layer = policies, layer

    @property
    def policy(self) -> DTypePolicy:
        """The policy of the layer's path."""
        return self.policies[path_of_layer(self._layer).removesuffix("/")]

    @policy.setter
    def policy(self, policy: Any) -> None:
        path = path_of_layer(self._layer).removesuffix("/")
        if path in self.policies:
            del self.policies[path]
        self.policies[path] = policy

    @property
    def compute_dtype(self) -> str:
        """The dtype of the computation."""
        return self.policy.compute_dtype

    @property
    def variable_dtype(self) -> str:
        """The dtype of the variables."""
        return self.policy.variable_dtype
