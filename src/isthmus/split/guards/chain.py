"""Guards one after the other: such as the largest values of each row, and those in eight bits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from isthmus.errors import JobError
from isthmus.link import Array
from isthmus.split.guards.base import Arrays, Guard, Layout, Shapes, check


class Chain(Guard):
    """Each guard encodes the values that the one before it left, and leaves the rest alone.

    Args:
        guards: in the order of encoding, at least one.
    """

    def __init__(self, guards: Sequence[Guard]) -> None:
        self.guards = tuple(guards)
        self.lossy = any(guard.lossy for guard in guards)

    @property
    def saturated(self) -> int:  # type: ignore[override]
        """See `Guard`."""
        return sum(guard.saturated for guard in self.guards)

    def layout(self, shapes: Shapes) -> Layout:
        """See `Guard.layout`."""
        done, layout = self._layouts(shapes)
        return {**done, **layout[-1]}

    def encode(self, tensors: Mapping[str, Array], *, learn: bool = True) -> Arrays:
        """See `Guard.encode`."""
        done: Arrays = {}
        for guard in self.guards:
            values = _values(guard.layout({name: x.shape for name, x in tensors.items()}))
            encoded = guard.encode(tensors, learn=learn)
            done |= {name: array for name, array in encoded.items() if name not in values}
            tensors = {name: encoded[name] for name in values}
        return {**done, **tensors}

    def decode(self, tensors: Mapping[str, Array], shapes: Shapes) -> Arrays:
        """See `Guard.decode`."""
        check(tensors, self.layout(shapes))
        given = dict(tensors)
        _, layouts = self._layouts(shapes)
        takes = [shapes, *(_values(layout) for layout in layouts)]
        for guard, layout, taken in reversed(list(zip(self.guards, layouts, takes, strict=False))):
            given |= guard.decode({name: given[name] for name in layout}, taken)
        return {name: given[name] for name in shapes}

    def state(self) -> Arrays:
        """See `Guard.state`."""
        return {
            f"{place}/{name}": array
            for place, guard in enumerate(self.guards)
            for name, array in guard.state().items()
        }

    def load_state(self, state: Mapping[str, Array]) -> None:
        """See `Guard.load_state`."""
        for place, guard in enumerate(self.guards):
            prefix = f"{place}/"
            own = {n[len(prefix) :]: array for n, array in state.items() if n.startswith(prefix)}
            guard.load_state(own)

    def reset(self) -> None:
        """See `Guard.reset`."""
        for guard in self.guards:
            guard.reset()

    def _layouts(self, shapes: Shapes) -> tuple[Layout, list[Layout]]:
        """What the guards leave to no other, and the whole layout of each."""
        done: Layout = {}
        layouts: list[Layout] = []
        for guard in self.guards:
            layout = guard.layout(shapes)
            if layout.keys() & done.keys():
                raise JobError(
                    "the guards' names for the parts of two cut tensors are the same",
                    mend="Give the bottom model's tensors names without dots.",
                )
            shapes = _values(layout)
            layouts.append(layout)
            done |= {name: slot for name, slot in layout.items() if name not in shapes}
        # The last one's values are sent as they are.
        done = {name: slot for name, slot in done.items() if name not in layouts[-1]}
        return done, layouts


def _values(layout: Layout) -> dict[str, tuple[int, ...]]:
    return {name: slot.shape for name, slot in layout.items() if slot.values}
