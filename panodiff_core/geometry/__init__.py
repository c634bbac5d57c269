"""Pictures of the sphere: rays, equirectangular, cubemap and perspective views, cameras, cube adjacency."""

from .camera import (
    CUBE_FACE_ANGLES_DEG,
    check_pose,
    focal_to_fov,
    fov_to_focal,
    from_opencv,
    from_opengl,
    intrinsics,
    opencv_to_opengl,
    pose_angles,
    pose_matrix,
    to_opencv,
    to_opengl,
    vertical_fov,
)
from .checks import MODES
from .crossfade import crossfade_seam
from .crossfade_cube import crossfade_cube
from .cubemap import (
    ADJACENCY,
    CUBE_EDGES,
    EDGES,
    FACES,
    Adjacent,
    directions_to_faces,
    edge_neighbours,
    edge_texels,
    face_directions,
    face_frames,
)
from .grids import GridCacheInfo, clear_grid_cache, grid_cache_info, set_grid_cache_limit
from .paste import paste_perspective
from .perspective import perspective_directions, perspective_pixels
from .polar_filter import polar_filter
from .reproject import (
    cubemap_to_equirect,
    cubemap_to_perspective,
    equirect_to_cubemap,
    equirect_to_perspective,
    perspective_to_cubemap,
    perspective_to_equirect,
    rotate_cubemap,
    rotate_equirect,
)
from .rotation import check_rotation, rotation_angles, rotation_matrix
from .sampling import sample_cubemap, sample_equirect
from .sphere import (
    directions_to_lonlat,
    equirect_directions,
    equirect_pixels_to_lonlat,
    lonlat_to_directions,
    lonlat_to_equirect_pixels,
)
from .stroke_mask import mask_from_strokes
from .strokes import Stroke, parse_strokes
from .views import (
    VIEW_MODES,
    View,
    ViewMode,
    equirect_to_view,
    view_coverage,
    view_directions,
    view_discontinuities,
    view_positions,
)

__all__ = [
    "ADJACENCY",
    "CUBE_EDGES",
    "CUBE_FACE_ANGLES_DEG",
    "EDGES",
    "FACES",
    "MODES",
    "VIEW_MODES",
    "Adjacent",
    "GridCacheInfo",
    "Stroke",
    "View",
    "ViewMode",
    "check_pose",
    "check_rotation",
    "clear_grid_cache",
    "crossfade_cube",
    "crossfade_seam",
    "cubemap_to_equirect",
    "cubemap_to_perspective",
    "directions_to_faces",
    "directions_to_lonlat",
    "edge_neighbours",
    "edge_texels",
    "equirect_directions",
    "equirect_pixels_to_lonlat",
    "equirect_to_cubemap",
    "equirect_to_perspective",
    "equirect_to_view",
    "face_directions",
    "face_frames",
    "focal_to_fov",
    "fov_to_focal",
    "from_opencv",
    "from_opengl",
    "grid_cache_info",
    "intrinsics",
    "lonlat_to_directions",
    "lonlat_to_equirect_pixels",
    "mask_from_strokes",
    "opencv_to_opengl",
    "parse_strokes",
    "paste_perspective",
    "perspective_directions",
    "perspective_pixels",
    "perspective_to_cubemap",
    "perspective_to_equirect",
    "polar_filter",
    "pose_angles",
    "pose_matrix",
    "rotate_cubemap",
    "rotate_equirect",
    "rotation_angles",
    "rotation_matrix",
    "sample_cubemap",
    "sample_equirect",
    "set_grid_cache_limit",
    "to_opencv",
    "to_opengl",
    "vertical_fov",
    "view_coverage",
    "view_directions",
    "view_discontinuities",
    "view_positions",
]
