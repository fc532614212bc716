"""How the page looks, light or dark."""

import numpy as np
import viser

BRAND_COLOR = (36, 99, 165)


def set_theme(gui: viser.GuiApi, dark: bool = False) -> None:
    """Sets the theme of all browsers (``server.gui``) or of one (``client.gui``)."""
    gui.configure_theme(
        show_logo=False, show_share_button=False, brand_color=BRAND_COLOR, dark_mode=dark
    )


def set_background(client: viser.ClientHandle, color: tuple[int, int, int] | None) -> None:
    """Sets what is behind the scene in one browser; None leaves it to the theme."""
    image = None if color is None else np.full((2, 2, 3), color, np.uint8)
    client.scene.set_background_image(image, format="png")
