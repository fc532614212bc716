"""Which levels are shown: a box each, and a button that builds the scene from coarse to fine."""

import threading
from collections.abc import Callable

import viser
from jaxtyping import Int
from torch import Tensor

ALL = "All"
STEP_S = 1.2
"""How long each step of the construction is shown."""


class LevelControls:
    """A folder of boxes for one scene.

    Args:
        client: The browser.
        level: Of each Gaussian.
        order: Where the folder is among its neighbours.
        changed: Called when other levels are chosen, on any thread.
    """

    def __init__(
        self,
        client: viser.ClientHandle,
        level: Int[Tensor, "n"],
        order: float,
        changed: Callable[[], None],
    ) -> None:
        self._changed = changed
        self._stop = threading.Event()
        gui = client.gui
        counts = {number: int((level == number).sum()) for number in level.unique().tolist()}
        names = level_names(list(counts))
        several = len(counts) > 1
        with gui.add_folder("Levels", order=order) as self._folder:
            self._boxes = {
                number: gui.add_checkbox(f"{names[number]} ({count:,})", True)
                for number, count in counts.items()
            }
            self._alone = gui.add_button_group("Only", (*names.values(), ALL), visible=several)
            self._play = gui.add_button(
                "Coarse → fine",
                icon=viser.Icon.PLAYER_PLAY,
                hint="Shows how the scene is built, level by level",
                visible=several,
            )
        self._numbers = {name: number for number, name in names.items()}
        for box in self._boxes.values():
            box.on_update(self._box_toggled)
        self._alone.on_click(self._alone_chosen)
        self._play.on_click(self._play_pressed)

    @property
    def chosen(self) -> frozenset[int]:
        """The levels to show."""
        return frozenset(number for number, box in self._boxes.items() if box.value)

    def stop(self) -> None:
        """Ends the construction, if it is running."""
        self._stop.set()

    def remove(self) -> None:
        """Takes the controls out of the page."""
        self.stop()
        self._folder.remove()

    def _choose(self, numbers: set[int]) -> None:
        for number, box in self._boxes.items():
            box.value = number in numbers
        self._changed()

    def _box_toggled(self, event: viser.GuiEvent) -> None:
        if event.client is not None:  # else it is this program that has set the box
            self.stop()
            self._changed()

    def _alone_chosen(self, event: viser.GuiEvent) -> None:
        self.stop()
        name = event.target.value
        self._choose({self._numbers[name]} if name in self._numbers else set(self._boxes))

    def _play_pressed(self, event: viser.GuiEvent) -> None:
        self.stop()
        self._stop = threading.Event()
        # Waiting here would take a thread away from everybody's callbacks.
        threading.Thread(
            target=self._build, args=(self._stop,), name="coarse to fine", daemon=True
        ).start()

    def _build(self, stop: threading.Event) -> None:
        numbers = list(self._boxes)
        for count in range(1, len(numbers) + 1):
            if stop.is_set():
                return
            self._choose(set(numbers[:count]))
            stop.wait(STEP_S)


def level_names(numbers: list[int]) -> dict[int, str]:
    """What levels are called, coarsest first."""
    if len(numbers) == 1:
        return {numbers[0]: ALL}
    middle = [f"Middle {i}" for i in range(1, len(numbers) - 1)]
    if len(middle) == 1:
        middle = ["Middle"]
    return dict(zip(numbers, ["Coarse", *middle, "Fine"], strict=True))
