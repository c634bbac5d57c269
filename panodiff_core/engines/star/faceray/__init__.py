"""FaceRay: sparse attention across the edges of a cubemap's faces, in ray coordinates, beside STAR's own attention."""

from .adapter import FaceRayAdapter
from .branches import MAX_STRENGTH, FaceRayBranches, check_strength, freeze_backbone, seam_rule
from .generator import FaceRayGenerator
from .geometry import SeamRule, SeamTables, boundary_tokens, ray_frames, seam_tables
from .layout import FaceRayLayout, face_layout, sampler_layout
from .losses import face_loss, seam_loss, seam_weight
from .sampler import FaceRaySampler

__all__ = [
    "MAX_STRENGTH",
    "FaceRayAdapter",
    "FaceRayBranches",
    "FaceRayGenerator",
    "FaceRayLayout",
    "FaceRaySampler",
    "SeamRule",
    "SeamTables",
    "boundary_tokens",
    "check_strength",
    "face_layout",
    "face_loss",
    "freeze_backbone",
    "ray_frames",
    "sampler_layout",
    "seam_loss",
    "seam_rule",
    "seam_tables",
    "seam_weight",
]
