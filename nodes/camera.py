"""What travels through a PANODIFF_CAMERA socket."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from ..panodiff_core.geometry import equirect_to_perspective
from ..panodiff_core.runtime.errors import InputError


@dataclass(frozen=True)
class CameraView:
    """A picture that a camera in the middle of a panorama takes: angles in degrees, size in pixels."""

    yaw_deg: float
    pitch_deg: float
    roll_deg: float
    fov_deg: float
    width: int
    height: int
    interpolation: str = "bicubic"

    @property
    def pose(self) -> tuple[float, float, float, float, str]:
        """(fov_deg, yaw_deg, pitch_deg, roll_deg, interpolation), in the order in which the core takes them."""
        return self.fov_deg, self.yaw_deg, self.pitch_deg, self.roll_deg, self.interpolation

    def take(self, panorama: Tensor, height: int | None = None, width: int | None = None) -> Tensor:
        """The picture [B,C,h,w] out of panoramas [B,C,H,2H]; another size shows the same, finer or coarser."""
        return equirect_to_perspective(panorama, height or self.height, width or self.width, *self.pose)

    def require_shape(self, image: Tensor) -> None:
        """Raises `InputError` unless `image` [B,h,w,C] has this camera's proportions, up to rounding to whole pixels."""
        height, width = image.shape[1:3]
        if abs(height * self.width - width * self.height) > (width + height + self.width + self.height) / 2:
            raise InputError(
                f"image is {width} x {height}, and its camera took {self.width} x {self.height}: resize it to that (or "
                "larger in the same proportions, to put back more detail). A cropped picture does not fit any more."
            )
