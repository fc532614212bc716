"""How the page looks, light or dark."""

import numpy as np
import viser

BRAND_COLOR = (36, 99, 165)
PHONE_SHEET = """<style>
@media (max-width: 36em) {
  [style*="width: 20em"]:not([class*="Notifications"]) { width: 100% !important }
  [style*="max-height: 60%"] { max-height: 45% !important }
}
</style>"""
"""viser's sheet of controls on a phone is narrow and high; across, it leaves more of the scene. Its
styles have no names, so these are told by their values; a browser test watches that they fit."""


def set_theme(gui: viser.GuiApi, dark: bool = False) -> None:
    """Sets the theme of all browsers (``server.gui``) or of one (``client.gui``)."""
    gui.configure_theme(
        show_logo=False, show_share_button=False, brand_color=BRAND_COLOR, dark_mode=dark
    )


def widen_phone_sheet(gui: viser.GuiApi) -> None:
    """Gives the controls the whole width of a phone, and the scene more than half of its height."""
    gui.add_html(PHONE_SHEET)


def set_background(client: viser.ClientHandle, color: tuple[int, int, int] | None) -> None:
    """Sets what is behind the scene in one browser; None leaves it to the theme."""
    image = None if color is None else np.full((2, 2, 3), color, np.uint8)
    client.scene.set_background_image(image, format="png")
