"""Files of other programs: images and coordinates in, coordinates out. Other conventions end here."""

from deeppicker.formats.atomic import atomic_path, atomic_write, make_folder
from deeppicker.formats.coordinates.cryosparc import MicrographSize
from deeppicker.formats.coordinates.picks import read_picks, write_picks
from deeppicker.formats.images.read import IMAGE_EXTENSIONS, ImageHeader, read_header, read_micrograph
from deeppicker.formats.inputs import find_micrographs
from deeppicker.formats.relion.star import read_micrographs

__all__ = [
    "IMAGE_EXTENSIONS",
    "ImageHeader",
    "MicrographSize",
    "atomic_path",
    "atomic_write",
    "find_micrographs",
    "make_folder",
    "read_header",
    "read_micrograph",
    "read_micrographs",
    "read_picks",
    "write_picks",
]
